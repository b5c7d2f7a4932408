# Old backups of crontabs and old rows of the journal. The file stays when the package is removed, hence the question.
23 4 * * * root [ ! -x /usr/bin/nanoexec ] || /usr/bin/nanoexec cron tidy --quiet
