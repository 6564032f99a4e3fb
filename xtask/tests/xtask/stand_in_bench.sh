#!/bin/sh
# A stand-in for both sides in tests of `cargo xtask bench`: prints the requested case with invented numbers, and another
# case that was not requested.
#   CALLS  file to which every call is appended; the seconds are the number of calls
set -eu
case $* in
*--version*) echo "stand-in 1"; exit ;;
esac
echo "$*" >>"$CALLS"
while [ "$1" != --cases ]; do shift; done
seconds=$(wc -l <"$CALLS")
echo '{"case": "another", "seconds": 0.5, "repeats": 3, "peak_rss_mib": 1}'
echo "{\"case\": \"$2\", \"seconds\": $seconds, \"repeats\": 3, \"peak_rss_mib\": 77}"
