#!/bin/sh
# Stands in for both sides of `cargo xtask bench`, where xtask is what is tested: prints a line as they do, of made-up
# numbers, and another that is not asked for.
#   CALLS  file to which every call is appended; the seconds are their number
set -eu
case $* in
*--version*) echo "stand-in 1"; exit ;;
esac
echo "$*" >>"$CALLS"
while [ "$1" != --cases ]; do shift; done
seconds=$(wc -l <"$CALLS")
echo '{"case": "another", "seconds": 0.5, "repeats": 3, "peak_rss_mib": 1}'
echo "{\"case\": \"$2\", \"seconds\": $seconds, \"repeats\": 3, \"peak_rss_mib\": 77}"
