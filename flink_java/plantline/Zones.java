package plantline;

import java.util.List;

/**
 * Finds the readings that bring a check of their machine into another zone; the others, nearly all,
 * are of no news to alerts.
 *
 * <p>What it remembers is this process's own, and gone with it. Afterwards the first reading of a
 * machine is news again, whatever its zones, and one change per second is not seen, that from the
 * reading before. Who keeps the alerts knows which are raised already.
 *
 * <p>A reading that is not newer than the last one of its machine is not judged.
 *
 * <p>Memory: a machine takes 24 bytes with up to 32 checks, and 8 more for each further 32 and for
 * each check of a rate; at most three quarters of the table are in use. Machines are known by a
 * hash of 64 bits: two of a million share one with a probability of 3e-8. When the table cannot
 * grow any further, all is forgotten, as after a restart.
 */
final class Zones {

    interface Changes {
        /**
         * @param zone -1 below, 0 inside, 1 above
         * @param value what was judged: the channel's value, or its change per second
         * @param threshold the bound that was crossed, NaN if that is not known
         */
        void add(Check check, int zone, double value, double threshold);
    }

    private static final int MAX_SLOTS = 1 << 20;
    private static final int FIRST_SLOTS = 1 << 10;
    private static final int CHECKS_PER_LONG = 32;
    private static final int TS = 1;
    private static final int ZONES = 2;

    private final Check[] checks;
    private final int values; // where the last values begin in a slot, for checks of a rate
    private final int stride; // longs of a slot: hash, ts, zones, values

    private long[] table;
    private int machines;

    Zones(List<Check> checks) {
        this.checks = checks.toArray(Check[]::new);
        values = ZONES + (this.checks.length + CHECKS_PER_LONG - 1) / CHECKS_PER_LONG;
        stride = values + (int) checks.stream().filter(Check::isOfRate).count();
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
        } else if (ts <= table[slot + TS]) {
            return;
        }
        double seconds = isFirst ? Double.NaN : (ts - table[slot + TS]) / 1000.0;
        int memory = slot + values;
        for (int i = 0; i < checks.length; i++) {
            Check check = checks[i];
            double value = given[check.place] == null ? Double.NaN : given[check.place];
            if (check.isOfRate()) {
                double last = Double.longBitsToDouble(table[memory]);
                table[memory++] = Double.doubleToLongBits(value);
                value = Math.abs(value - last) / seconds;
            }
            if (!Double.isNaN(value)) {
                judge(slot + ZONES + i / CHECKS_PER_LONG, i, value, changes);
            }
        }
        table[slot + TS] = ts;
    }

    private void judge(int word, int number, double value, Changes changes) {
        Check check = checks[number];
        int shift = 2 * (number % CHECKS_PER_LONG);
        int before = (int) (table[word] >>> shift) & 3;
        int zone = check.zone(before, value);
        if (zone != before) {
            table[word] ^= (long) (before ^ zone) << shift;
            changes.add(check, zone - Check.INSIDE, value, check.threshold(before, zone));
        }
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
        return 4L * (machines + 1) <= 3L * (table.length / stride);
    }

    private void makeRoom() {
        if (table.length / stride >= MAX_SLOTS) {
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
