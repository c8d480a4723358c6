# The watchdog: outlives the process that started it just long enough to end its child and remove
# its files.
#
# $1     the directory to remove
# stdin  a pipe that only the guarding process holds open; each line replaces the order before it:
#          GROUP SIGNAL   if I die, end process group GROUP with SIGNAL (0: await its end)
#          -              nothing to end
#          done           all is cleaned up already
#        The end of the pipe without `done` means that the process died.
trap '' HUP INT TERM
group=- signal=KILL
while read -r first second; do
    case $first in
        done) exit 0 ;;
        *) group=$first signal=$second ;;
    esac
done

alive() {
    # The dead keep their number until they are reaped, which an orphan may wait for in a container.
    case $(cat "/proc/$group/stat") in *") Z "*) return 1 ;; esac
    kill -s 0 -- "-$group"
}

if [ "$group" != - ]; then
    kill -s "$signal" -- "-$group"
    kill -s CONT -- "-$group" # a stopped process receives only SIGKILL
    tenths=0
    while [ "$tenths" -lt 150 ] && alive; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    kill -s KILL -- "-$group"
fi 2>/dev/null

# Something may still be writing into the directory on its way out.
tenths=0
until rm -rf -- "$1" 2>/dev/null || [ "$tenths" -ge 50 ]; do
    sleep 0.1
    tenths=$((tenths + 1))
done
