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
 * <p>Memory: a machine's slot takes 24 bytes with up to 32 checks, 8 more for each further 32 and
 * for each check of a rate, 16 more for each of a stuck channel. Of the slots three quarters are in
 * use at most, and three eighths at least once the table has grown: a machine without checks of the
 * latter two kinds costs 32 to 64 bytes, 4,000,000 of them 200 MB, and half as much again for the
 * moment in which the table grows. Beyond {@value #MOST_MACHINES} machines, or when an array cannot
 * be longer, all is forgotten, as after a restart. Machines are known by a hash of 64 bits: two of
 * four million share one with a probability of 4e-7.
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

    static final int MOST_MACHINES = 4_000_000;

    private static final int LONGEST_ARRAY = Integer.MAX_VALUE - 8; // as the JDK has it
    private static final int FIRST_SLOTS = 1 << 10;
    private static final int CHECKS_PER_LONG = 32;
    private static final int TS = 1;
    private static final int ZONES = 2;
    private static final long NO_VALUE = Double.doubleToRawLongBits(Double.NaN);

    private final Check[] checks;
    private final int mostMachines;
    private final int memories; // where in a slot what checks remember begins
    private final int stride; // longs of a slot: hash, ts, zones, memories

    private long[] table;
    private int machines;

    /**
     * @param mostMachines how many are remembered, {@link #MOST_MACHINES} if there is no reason for
     *     another number
     */
    Zones(List<Check> checks, int mostMachines) {
        this.checks = checks.toArray(Check[]::new);
        this.mostMachines = mostMachines;
        memories = ZONES + (this.checks.length + CHECKS_PER_LONG - 1) / CHECKS_PER_LONG;
        stride = memories + checks.stream().mapToInt(Check::memory).sum();
        table = new long[FIRST_SLOTS * stride];
    }

    /**
     * @param ts epoch milliseconds
     * @param given the values of the channels, null if missing
     */
    void judge(String machineId, long ts, Double[] given, Changes changes) {
        long hash = hash(machineId);
        int slot = slot(table, hash);
        boolean isFirst = table[slot] != hash;
        if (isFirst) {
            if (!hasRoom()) {
                makeRoom();
                slot = slot(table, hash);
            }
            machines++;
            table[slot] = hash;
            Arrays.fill(table, slot + memories, slot + stride, NO_VALUE);
        } else if (ts <= table[slot + TS]) {
            return;
        }
        double seconds = (ts - table[slot + TS]) / 1000.0; // of no meaning for the first
        int memory = slot + memories;
        for (int i = 0; i < checks.length; i++) {
            Check check = checks[i];
            double value = given[check.place] == null ? Double.NaN : given[check.place];
            if (check.isStuck()) {
                judgeStuck(slot, i, memory, ts, value, changes);
            } else {
                if (check.isOfRate()) {
                    double last = Double.longBitsToDouble(table[memory]);
                    table[memory] = Double.doubleToRawLongBits(value);
                    value = Math.abs(value - last) / seconds;
                }
                if (!Double.isNaN(value)) {
                    enter(slot, i, check.zone(zone(slot, i), value), value, changes);
                }
            }
            memory += check.memory();
        }
        table[slot + TS] = ts;
    }

    /** In its memory are the value that the channel shows, and since when. */
    private void judgeStuck(
            int slot, int number, int memory, long ts, double value, Changes changes) {
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
            int zone = checks[number].zoneOfStuck(zone(slot, number), bits == last, seconds);
            enter(slot, number, zone, value, changes);
        }
    }

    private int zone(int slot, int number) {
        return (int) (table[slot + ZONES + number / CHECKS_PER_LONG] >>> shift(number)) & 3;
    }

    private void enter(int slot, int number, int zone, double value, Changes changes) {
        Check check = checks[number];
        int before = zone(slot, number);
        if (zone != before) {
            table[slot + ZONES + number / CHECKS_PER_LONG] ^=
                    (long) (before ^ zone) << shift(number);
            changes.add(check, zone - Check.INSIDE, value, check.threshold(before, zone));
        }
    }

    private static int shift(int number) {
        return 2 * (number % CHECKS_PER_LONG);
    }

    /** Where a machine's slot is, or would be: an empty one, with hash 0. */
    private int slot(long[] slots, long hash) {
        int mask = slots.length / stride - 1;
        int number = (int) hash & mask;
        while (slots[number * stride] != hash && slots[number * stride] != 0) {
            number = (number + 1) & mask;
        }
        return number * stride;
    }

    private boolean hasRoom() {
        return machines < mostMachines && 4L * (machines + 1) <= 3L * (table.length / stride);
    }

    private void makeRoom() {
        if (machines >= mostMachines || 2L * table.length > LONGEST_ARRAY) {
            table = new long[FIRST_SLOTS * stride];
            machines = 0;
            return;
        }
        long[] larger = new long[2 * table.length];
        for (int slot = 0; slot < table.length; slot += stride) {
            if (table[slot] != 0) {
                System.arraycopy(table, slot, larger, slot(larger, table[slot]), stride);
            }
        }
        table = larger;
    }

    /** FNV-1a of the characters, mixed as splitmix64 ends: the low bits choose the slot. */
    private static long hash(String id) {
        long hash = 0xcbf29ce484222325L;
        for (int i = 0; i < id.length(); i++) {
            hash = (hash ^ id.charAt(i)) * 0x100000001b3L;
        }
        hash = (hash ^ (hash >>> 30)) * 0xbf58476d1ce4e5b9L;
        hash = (hash ^ (hash >>> 27)) * 0x94d049bb133111ebL;
        hash ^= hash >>> 31;
        return hash == 0 ? 1 : hash; // 0 is an empty slot
    }
}
