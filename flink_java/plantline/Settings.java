package plantline;

import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

import java.io.Serializable;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * What a job says of its readings (flink_jobs.jobs.anomaly_sql.stream_settings); times in
 * milliseconds.
 *
 * @param topic of the readings
 * @param group under which Kafka keeps where the job is
 * @param fromBeginning whether a job without state reads the whole topic, not from where it is
 * @param kafka settings of Kafka's Java client
 * @param machineType whose readings the topic holds
 * @param registry the topic in which machines must be registered, null if they need not
 * @param channels in the order of the model
 * @param checks of the channels, see {@link Check}; empty if there are none
 * @param maxTs the last valid time, epoch milliseconds
 * @param maxIdLength of a machine_id, in characters
 * @param maxRawBytes of a record that is refused, so many bytes are passed on
 * @param disorder how far behind the newest reading of its partition another one may be
 * @param ahead how far a reading's clock may be ahead of its arrival
 * @param window length of windows, a multiple of the slide
 * @param commissioning with how many readings a machine's reference is made
 * @param silentAfter after so long without a reading a machine is silent; null if that is nothing to tell
 * @param forgetAfter for how long the state of a machine is kept that sends nothing
 */
record Settings(
        String topic,
        String group,
        boolean fromBeginning,
        Map<String, String> kafka,
        String machineType,
        String registry,
        List<Channel> channels,
        String checks,
        long maxTs,
        int maxIdLength,
        int maxRawBytes,
        long disorder,
        long ahead,
        long window,
        long slide,
        int commissioning,
        Long silentAfter,
        long forgetAfter)
        implements Serializable {

    private static final long ROCKSDB_CLOCK_EVERY = 1000; // entries

    /**
     * @param low the lowest value that its sensor can show
     * @param high the highest
     * @param isChecked whether `checks` has a part of it
     */
    record Channel(String name, double low, double high, boolean isChecked)
            implements Serializable {}

    /** Whether a machine is forgotten of which something was written then, and nothing since. */
    boolean isOver(long written, long now) {
        return now - written > forgetAfter;
    }

    /** Whether what was written then should be written again, so that it is kept. */
    boolean isOld(long written, long now) {
        return now - written > forgetAfter / 30;
    }

    /**
     * For state that must not outlive its machine. It only tidies up: who asks whether a machine is
     * forgotten asks {@link #isOver}, and finds all that belongs to one that is not. State on the heap
     * that is over is left out of snapshots, and gone with the next start; to look for it all the time
     * took 6 % of the JVM's samples in a profile of the benchmark.
     */
    StateTtlConfig whileWritten() {
        long longest = silentAfter == null ? forgetAfter : Math.max(forgetAfter, silentAfter);
        return StateTtlConfig.newBuilder(Duration.ofMillis(3 * longest))
                .disableCleanupInBackground()
                .cleanupFullSnapshot()
                .cleanupInRocksdbCompactFilter(ROCKSDB_CLOCK_EVERY)
                .build();
    }

    /**
     * @throws IllegalArgumentException for a text that is no such object
     */
    static Settings parse(String json) {
        try {
            return new ObjectMapper().readValue(json, Settings.class);
        } catch (JsonProcessingException error) {
            throw new IllegalArgumentException("settings of the stream: " + json, error);
        }
    }
}
