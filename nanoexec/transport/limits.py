"""The bounds that every implementation keeps, so that what one drops the other drops too."""

from typing import Final

from nanoexec.wire.network import MAX_FRAME

MAX_PUBLISHED: Final = MAX_FRAME + 254  # bytes: a topic (the longest node name and its colon) stands before the frame
PUBLISH_QUEUE: Final = 256  # frames for each node; then the oldest is dropped, silently
RECEIVE_QUEUE: Final = 256  # frames heard and not yet read by the node; then the oldest is dropped, silently
