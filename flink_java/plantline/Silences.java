package plantline;

import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.ChainingStrategy;
import org.apache.flink.streaming.api.operators.InternalTimer;
import org.apache.flink.streaming.api.operators.InternalTimerService;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Triggerable;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * Tells when a machine has sent nothing for too long, and when it sends again, by its windows, which
 * come in the order of time.
 *
 * <p>That there is no reading is certain for whole slides: silence begins with the first boundary of
 * slides that is too long after the last reading. It is told when event time passes that; or by the
 * window that comes next, where event time jumps.
 */
final class Silences extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData>, Triggerable<String, VoidNamespace> {

    private static final long serialVersionUID = 1;

    private static final long NEVER = Long.MIN_VALUE;

    private final Settings settings;
    private final long tooLong;
    private final long slide;

    // The last reading; and from when on its machine was told to be silent, or NEVER: then it has a timer.
    private transient ValueState<Tuple2<Long, Long>> last;
    private transient InternalTimerService<VoidNamespace> timers;

    /**
     * @param settings with a time after which a machine is silent
     */
    Silences(Settings settings) {
        this.settings = settings;
        tooLong = settings.silentAfter();
        slide = settings.slide();
        chainingStrategy = ChainingStrategy.ALWAYS;
    }

    @Override
    public void open() throws Exception {
        super.open();
        ValueStateDescriptor<Tuple2<Long, Long>> descriptor =
                new ValueStateDescriptor<>("last", Types.TUPLE(Types.LONG, Types.LONG));
        descriptor.enableTimeToLive(settings.whileWritten());
        last = getRuntimeContext().getState(descriptor);
        timers = getInternalTimerService("silences", VoidNamespaceSerializer.INSTANCE, this);
        // Restored timers may be of another setting, hours away.
        getKeyedStateBackend()
                .applyToAllKeys(
                        VoidNamespace.INSTANCE,
                        VoidNamespaceSerializer.INSTANCE,
                        descriptor,
                        (machine, state) -> {
                            Tuple2<Long, Long> found = state.value();
                            if (found != null && found.f1 == NEVER) {
                                await(found.f0);
                            }
                        });
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData window = element.getValue();
        long end = window.getLong(1);
        long reading = Readings.last(window.getBinary(3));
        Tuple2<Long, Long> before = last.value();
        if (before == null) {
            await(reading);
        } else if (reading <= before.f0) {
            return; // windows overlap: it holds nothing new
        } else if (before.f1 != NEVER) {
            await(reading);
            tell(window.getString(0), false, before.f1, reading);
        } else if (end > beginning(before.f0)) {
            long raisedAt = before.f0 + tooLong;
            tell(window.getString(0), true, raisedAt, before.f0);
            tell(window.getString(0), false, raisedAt, reading);
        }
        last.update(Tuple2.of(reading, NEVER));
    }

    @Override
    public void onEventTime(InternalTimer<String, VoidNamespace> timer) throws Exception {
        Tuple2<Long, Long> found = last.value();
        if (found == null || found.f1 != NEVER) {
            return; // forgotten, or told
        }
        if (beginning(found.f0) > timer.getTimestamp() + 1) {
            await(found.f0);
            return;
        }
        long raisedAt = found.f0 + tooLong;
        last.update(Tuple2.of(found.f0, raisedAt));
        tell(StringData.fromString(timer.getKey()), true, raisedAt, found.f0);
    }

    /** Looks at the machine again when it is silent, if no other reading comes. */
    private void await(long reading) {
        timers.registerEventTimeTimer(VoidNamespace.INSTANCE, beginning(reading) - 1);
    }

    /** From when on it is certain that none followed soon enough; a window may end there. */
    private long beginning(long reading) {
        return -Math.floorDiv(-(reading + tooLong), slide) * slide;
    }

    private void tell(StringData machine, boolean isSilent, long raisedAt, long reading) {
        output.collect(
                new StreamRecord<>(GenericRowData.of(machine, isSilent, raisedAt, reading)));
    }

    @Override
    public void onProcessingTime(InternalTimer<String, VoidNamespace> timer) {
        throw new UnsupportedOperationException("there are no such timers");
    }
}
