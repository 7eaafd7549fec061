package plantline;

import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.metrics.Counter;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/**
 * Puts slices of a machine together to windows, and its first windows to what it is commissioned
 * with.
 *
 * <p>A window that holds a reading goes on, packed ({@link Readings}), when event time passes its
 * end. Windows whose end is a multiple of their length do not overlap: together they hold every
 * reading once. Of these the first ones go on once as one, packed, in {@link Stream#FIRST_READINGS}
 * with the window with which they are enough.
 *
 * <p>Each window says whether its machine is commissioned. Whoever has sent nothing for too long is
 * not any more: this is the one place that decides it.
 *
 * <p>Of each machine are kept the slices of windows that are not closed, for as long as those are
 * open; and its first readings until they are enough, then, that they were. Which of its windows is
 * the next to be closed is kept with the slices; that all of them close at the same times makes a
 * list for each time cheaper than Flink's timers, which are a queue with a place for each machine.
 */
final class Windows extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData> {

    private static final long serialVersionUID = 1;

    private static final byte[] NOTHING = {};

    private final Settings settings;
    private final int channels;
    private final long window;
    private final long slide;
    private final int enough;

    // See Slices.
    private transient ValueState<byte[]> slices;
    // When each was written, by the clock of the host: first readings, packed; or that they were enough.
    private transient ValueState<Tuple2<Long, byte[]>> first;
    private transient ValueState<Long> commissioned;
    // Machines by the end of their next window; one whose next window is another by now is passed over.
    private transient TreeMap<Long, List<String>> due;
    private transient long eventTime;
    private transient Counter late;

    Windows(Settings settings) {
        this.settings = settings;
        channels = settings.channels().size();
        window = settings.window();
        slide = settings.slide();
        enough = settings.commissioning();
    }

    @Override
    public void open() throws Exception {
        super.open();
        var bytes = PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
        ValueStateDescriptor<byte[]> ofSlices = new ValueStateDescriptor<>("slices", bytes);
        slices = getRuntimeContext().getState(ofSlices);
        ValueStateDescriptor<Tuple2<Long, byte[]>> ofFirst =
                new ValueStateDescriptor<>("first", Types.TUPLE(Types.LONG, bytes));
        ofFirst.enableTimeToLive(settings.whileWritten());
        first = getRuntimeContext().getState(ofFirst);
        ValueStateDescriptor<Long> ofCommissioned =
                new ValueStateDescriptor<>("commissioned", Types.LONG);
        ofCommissioned.enableTimeToLive(settings.whileWritten());
        commissioned = getRuntimeContext().getState(ofCommissioned);
        late = getMetricGroup().counter("numLateRecordsDropped"); // as Flink's windows call it
        eventTime = Long.MIN_VALUE;
        due = new TreeMap<>();
        getKeyedStateBackend()
                .applyToAllKeys(
                        VoidNamespace.INSTANCE,
                        VoidNamespaceSerializer.INSTANCE,
                        ofSlices,
                        (machine, open) -> await((String) machine, Slices.next(open.value())));
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData slice = element.getValue();
        long end = slice.getLong(1);
        long firstOpen = Math.max(end, closed() + slide);
        if (firstOpen >= end + window) {
            late.inc(); // from a source that had no partition yet, and knew no event time
            return;
        }
        byte[] all = Slices.add(slices.value(), end, slice.getBinary(2));
        if (firstOpen < Slices.next(all)) {
            Slices.next(all, firstOpen);
            await((String) getCurrentKey(), firstOpen);
        }
        slices.update(all);
    }

    private void await(String machine, long end) {
        due.computeIfAbsent(end, any -> new ArrayList<>()).add(machine);
    }

    /** The end of the last window that event time has passed. */
    private long closed() {
        long next = eventTime + 1; // MIN_VALUE before there is any
        return next <= 0 ? 0 : next - next % slide;
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        eventTime = mark.getTimestamp();
        while (!due.isEmpty() && due.firstKey() - 1 <= eventTime) {
            var machines = due.pollFirstEntry();
            for (String machine : machines.getValue()) {
                setCurrentKey(machine);
                byte[] open = slices.value();
                if (open != null && Slices.next(open) == machines.getKey()) {
                    close(StringData.fromString(machine), machines.getKey(), open);
                }
            }
        }
        super.processWatermark(mark);
    }

    private void close(StringData machine, long end, byte[] open) throws Exception {
        Readings readings = new Readings(channels);
        byte[] rest = Slices.close(open, end, window, slide, readings);
        if (rest == null) {
            slices.clear();
        } else {
            slices.update(rest);
            await((String) getCurrentKey(), Slices.next(rest));
        }
        byte[] packed = readings.packed();
        boolean isCommissioned = commission(machine, end, packed);
        output.collect(
                new StreamRecord<>(
                        GenericRowData.of(
                                machine, end, (long) Readings.count(packed), packed, isCommissioned),
                        end - 1));
    }

    /** Whether a machine is commissioned with this window; emits its first readings if with it. */
    private boolean commission(StringData machine, long end, byte[] packed) throws Exception {
        long now = getProcessingTimeService().getCurrentProcessingTime();
        Long since = commissioned.value();
        if (since != null && !settings.isOver(since, now)) {
            if (settings.isOld(since, now)) {
                commissioned.update(now);
            }
            return true;
        }
        if (end % window != 0) {
            return false;
        }
        Tuple2<Long, byte[]> found = first.value();
        byte[] before = found == null || settings.isOver(found.f0, now) ? NOTHING : found.f1;
        Readings all = new Readings(channels);
        if (before.length > 0) {
            all.addPacked(before);
        }
        all.addPacked(packed);
        byte[] together = all.packed();
        if (Readings.count(together) < enough) {
            first.update(Tuple2.of(now, together));
            return false;
        }
        first.clear();
        commissioned.update(now);
        output.collect(
                Stream.FIRST_READINGS,
                new StreamRecord<>(GenericRowData.of(machine, end, together), end - 1));
        return true;
    }
}
