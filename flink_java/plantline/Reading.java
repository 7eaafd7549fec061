package plantline;

import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * A record and what was found in it. Each reader has one, which the next record overwrites: it is
 * passed on within a task, and never kept.
 */
final class Reading {

    static final long NO_TIME = -1;

    final double[] values; // of the channels, NaN if missing
    ConsumerRecord<byte[], byte[]> record;
    String reason; // why it is refused, null for a good one
    String detail; // the same for people
    long ts; // epoch milliseconds, or NO_TIME; a refused one may have it, too
    MachineTable.Machine machine; // of a good one; null for the clock

    Reading(int channels) {
        values = new double[channels];
    }

    boolean isClock() {
        return reason == null && machine == null;
    }
}
