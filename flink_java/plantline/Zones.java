package plantline;

import java.util.Arrays;
import java.util.List;

/**
 * Finds the readings that bring a check of their machine into another zone; the others, nearly all,
 * are of no news to alerts.
 *
 * <p>What it remembers is this process's own, and gone with it. Afterwards the first reading of a
 * machine is news again, whatever its zones; one change per second is not seen, that from the
 * reading before; and the time for which a channel shows one value begins anew. Who keeps the
 * alerts knows which are raised already.
 *
 * <p>A reading that is not newer than the last one of its machine is not judged. A value that is
 * missing is not judged, either: a channel is as stuck after it as before.
 *
 * <p>What a machine shows is remembered with the machine ({@link MachineTable}): 32 bytes with up to
 * 32 checks, 8 more for each further 32 and for each check of a rate, 16 more for each of a stuck
 * channel.
 */
final class Zones {

    interface Changes {
        /**
         * @param zone -1 below, 0 inside, 1 above
         * @param value what was judged: the channel's value, or its change per second
         * @param threshold the bound that was crossed, of a stuck channel the seconds; NaN if it is
         *     not known
         */
        void add(Check check, int zone, double value, double threshold);
    }

    private static final int CHECKS_PER_LONG = 32;
    private static final int TS = 0;
    private static final int ZONES = 1;
    private static final long NO_VALUE = Double.doubleToRawLongBits(Double.NaN);

    private final Check[] checks;
    private final int memories; // where in a memory what checks remember begins
    private final int length; // of a memory: ts, zones, what checks remember

    Zones(List<Check> checks) {
        this.checks = checks.toArray(Check[]::new);
        memories = ZONES + (this.checks.length + CHECKS_PER_LONG - 1) / CHECKS_PER_LONG;
        length = memories + checks.stream().mapToInt(check -> check.memory).sum();
    }

    /**
     * @param ts epoch milliseconds
     * @param given the values of the channels, NaN if missing
     */
    void judge(MachineTable.Machine machine, long ts, double[] given, Changes changes) {
        if (machine.zones == null) {
            machine.zones = new long[length];
            Arrays.fill(machine.zones, memories, length, NO_VALUE);
        } else if (ts <= machine.zones[TS]) {
            return;
        }
        long[] table = machine.zones;
        double seconds = (ts - table[TS]) / 1000.0; // of no meaning for the first
        int memory = memories;
        for (int i = 0; i < checks.length; i++) {
            Check check = checks[i];
            double value = given[check.place];
            if (check.isStuck) {
                judgeStuck(table, i, memory, ts, value, changes);
            } else {
                if (check.isOfRate) {
                    double last = Double.longBitsToDouble(table[memory]);
                    table[memory] = Double.doubleToRawLongBits(value);
                    value = Math.abs(value - last) / seconds;
                }
                if (!Double.isNaN(value)) {
                    enter(table, i, check.zone(zone(table, i), value), value, changes);
                }
            }
            memory += check.memory;
        }
        table[TS] = ts;
    }

    /** In its memory are the value that the channel shows, and since when. */
    private void judgeStuck(
            long[] table, int number, int memory, long ts, double value, Changes changes) {
        if (Double.isNaN(value)) {
            return;
        }
        long bits = Double.doubleToRawLongBits(value);
        long last = table[memory];
        if (bits != last) {
            table[memory] = bits;
            table[memory + 1] = ts;
        }
        if (last != NO_VALUE) {
            double seconds = (ts - table[memory + 1]) / 1000.0;
            int zone = checks[number].zoneOfStuck(zone(table, number), bits == last, seconds);
            enter(table, number, zone, value, changes);
        }
    }

    private static int zone(long[] table, int number) {
        return (int) (table[ZONES + number / CHECKS_PER_LONG] >>> shift(number)) & 3;
    }

    private void enter(long[] table, int number, int zone, double value, Changes changes) {
        Check check = checks[number];
        int before = zone(table, number);
        if (zone != before) {
            table[ZONES + number / CHECKS_PER_LONG] ^= (long) (before ^ zone) << shift(number);
            changes.add(check, zone - Check.INSIDE, value, check.threshold(before, zone));
        }
    }

    private static int shift(int number) {
        return 2 * (number % CHECKS_PER_LONG);
    }
}
