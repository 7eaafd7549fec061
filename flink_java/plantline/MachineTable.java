package plantline;

import org.apache.flink.table.data.StringData;

import java.util.Arrays;

/** The machines that a task has seen, found by the bytes of their ids wherever those lie. */
final class MachineTable {

    static final int MOST = 4_000_000; // by the sizes of their objects some 800 MB, with a check or two

    private static final int FIRST_SLOTS = 1 << 10; // a power of 2

    private final int most;
    private Machine[] slots = new Machine[FIRST_SLOTS];
    private int used;

    /**
     * @param most how many are remembered, {@link #MOST} if there is no reason for another number
     */
    MachineTable(int most) {
        this.most = most;
    }

    /** A machine as long as its task remembers it; two objects may stand for one machine. */
    static final class Machine {
        final byte[] id; // UTF-8
        final long hash;
        final StringData name; // keeps the String that is made of it as a key

        Slicer.Part open; // what is collected of it, the latest slice first (Slicer)
        long[] zones; // Zones

        private Machine(byte[] id, long hash) {
            this.id = id;
            this.hash = hash;
            name = StringData.fromBytes(id);
        }
    }

    /** Null for one that was not added, or is forgotten. */
    Machine find(byte[] text, int from, int to) {
        return slots[slot(hash(text, from, to), text, from, to)];
    }

    /**
     * Remembers a machine that is not found. Where they are too many, all others are forgotten.
     *
     * @param id UTF-8, in an array that stays as it is
     */
    Machine add(byte[] id) {
        if (used >= most) {
            slots = new Machine[FIRST_SLOTS];
            used = 0;
        } else if (4L * (used + 1) > 3L * slots.length) {
            Machine[] old = slots;
            slots = new Machine[2 * old.length];
            for (Machine machine : old) {
                if (machine != null) {
                    slots[slot(machine.hash, machine.id, 0, machine.id.length)] = machine;
                }
            }
        }
        Machine machine = new Machine(id, hash(id, 0, id.length));
        slots[slot(machine.hash, id, 0, id.length)] = machine;
        used++;
        return machine;
    }

    private int slot(long hash, byte[] text, int from, int to) {
        int mask = slots.length - 1;
        int slot = (int) hash & mask;
        for (Machine found = slots[slot]; found != null; found = slots[slot]) {
            if (found.hash == hash
                    && Arrays.equals(found.id, 0, found.id.length, text, from, to)) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    /** FNV-1a of the bytes, mixed as splitmix64 ends, so that the low bits choose the slot. */
    private static long hash(byte[] text, int from, int to) {
        long hash = 0xcbf29ce484222325L;
        for (int i = from; i < to; i++) {
            hash = (hash ^ text[i] & 0xFF) * 0x100000001b3L;
        }
        hash = (hash ^ (hash >>> 30)) * 0xbf58476d1ce4e5b9L;
        hash = (hash ^ (hash >>> 27)) * 0x94d049bb133111ebL;
        return hash ^ (hash >>> 31);
    }
}
