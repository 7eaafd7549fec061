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

    private final Settings settings;
    private final long tooLong;
    private final long slide;

    // The last reading, and whether its machine was told to be silent. While it was not there is one timer.
    private transient ValueState<Tuple2<Long, Boolean>> last;
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
        ValueStateDescriptor<Tuple2<Long, Boolean>> descriptor =
                new ValueStateDescriptor<>("last", Types.TUPLE(Types.LONG, Types.BOOLEAN));
        descriptor.enableTimeToLive(settings.whileWritten());
        last = getRuntimeContext().getState(descriptor);
        timers = getInternalTimerService("silences", VoidNamespaceSerializer.INSTANCE, this);
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData window = element.getValue();
        long end = window.getLong(1);
        long reading = Readings.last(window.getBinary(3));
        Tuple2<Long, Boolean> before = last.value();
        if (before == null) {
            await(reading);
        } else if (reading <= before.f0) {
            return; // windows overlap: it holds nothing new
        } else if (before.f1 || end > beginning(before.f0)) {
            StringData machine = window.getString(0);
            if (before.f1) {
                await(reading);
            } else {
                tell(machine, true, before.f0, before.f0);
            }
            tell(machine, false, before.f0, reading);
        }
        last.update(Tuple2.of(reading, false));
    }

    @Override
    public void onEventTime(InternalTimer<String, VoidNamespace> timer) throws Exception {
        Tuple2<Long, Boolean> found = last.value();
        if (found == null) {
            return; // forgotten
        }
        if (beginning(found.f0) > timer.getTimestamp() + 1) {
            await(found.f0);
            return;
        }
        last.update(Tuple2.of(found.f0, true));
        tell(StringData.fromString(timer.getKey()), true, found.f0, found.f0);
    }

    /** Looks at the machine again when it is silent, if no other reading comes. */
    private void await(long reading) {
        timers.registerEventTimeTimer(VoidNamespace.INSTANCE, beginning(reading) - 1);
    }

    /** From when on it is certain that none followed soon enough; a window may end there. */
    private long beginning(long reading) {
        return -Math.floorDiv(-(reading + tooLong), slide) * slide;
    }

    private void tell(StringData machine, boolean isSilent, long before, long reading) {
        output.collect(
                new StreamRecord<>(
                        GenericRowData.of(machine, isSilent, before + tooLong, reading)));
    }

    @Override
    public void onProcessingTime(InternalTimer<String, VoidNamespace> timer) {
        throw new UnsupportedOperationException("there are no such timers");
    }
}
