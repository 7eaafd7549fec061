package plantline;

import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;

/**
 * Event time of a partition: that of its newest reading, less the disorder that is allowed.
 *
 * <p>A reading that is refused for its values, its machine or its key moves it, too, as the clock
 * service takes it (flink_jobs/clock.py): else a machine with a broken sensor would hold up its
 * partition. One whose clock is too far ahead of its arrival never does.
 */
final class EventTimes implements WatermarkGenerator<Reading> {

    private final long disorder;
    private final long ahead;
    private long newest = Long.MIN_VALUE;

    EventTimes(Settings settings) {
        disorder = settings.disorder();
        ahead = settings.ahead();
    }

    @Override
    public void onEvent(Reading reading, long appended, WatermarkOutput output) {
        if (reading.ts > newest && reading.ts <= reading.record.timestamp() + ahead) {
            newest = reading.ts; // NO_TIME is before all times
        }
    }

    @Override
    public void onPeriodicEmit(WatermarkOutput output) {
        if (newest >= 0) {
            output.emitWatermark(new Watermark(newest - disorder));
        }
    }
}
