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
import org.apache.flink.streaming.api.operators.InternalTimer;
import org.apache.flink.streaming.api.operators.InternalTimerService;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Triggerable;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

import java.nio.ByteBuffer;
import java.util.Arrays;

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
 * open; and its first readings until they are enough, then, that they were.
 */
final class Windows extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData>, Triggerable<String, VoidNamespace> {

    private static final long serialVersionUID = 1;

    private static final byte[] NOTHING = {};
    // In the place of first readings that have gone on.
    private static final byte[] COMMISSIONED = {1};

    private static final int HEAD = Long.BYTES + Integer.BYTES; // of a slice: end, bytes of its rows

    private final Settings settings;
    private final int channels;
    private final long window;
    private final long slide;
    private final int enough;

    private transient ValueState<byte[]> slices; // of each (end, bytes of its rows, rows)
    // When this was written, the clock of the host; and first readings, packed.
    private transient ValueState<Tuple2<Long, byte[]>> first;
    private transient InternalTimerService<VoidNamespace> timers;
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
        slices = getRuntimeContext().getState(new ValueStateDescriptor<>("slices", bytes));
        ValueStateDescriptor<Tuple2<Long, byte[]>> ofFirst =
                new ValueStateDescriptor<>("first", Types.TUPLE(Types.LONG, bytes));
        ofFirst.enableTimeToLive(settings.whileWritten());
        first = getRuntimeContext().getState(ofFirst);
        late = getMetricGroup().counter("numLateRecordsDropped"); // as Flink's windows call it
        timers = getInternalTimerService("windows", VoidNamespaceSerializer.INSTANCE, this);
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
        byte[] before = slices.value();
        int length = before == null ? 0 : before.length;
        byte[] rows = slice.getBinary(2);
        byte[] more = new byte[length + HEAD + rows.length];
        if (before != null) {
            System.arraycopy(before, 0, more, 0, length);
        }
        ByteBuffer.wrap(more, length, HEAD + rows.length)
                .putLong(end)
                .putInt(rows.length)
                .put(rows);
        slices.update(more);
        timers.registerEventTimeTimer(VoidNamespace.INSTANCE, firstOpen - 1);
    }

    /** The end of the last window that event time has passed. */
    private long closed() {
        long next = timers.currentWatermark() + 1; // MIN_VALUE before there is any
        return next <= 0 ? 0 : next - next % slide;
    }

    @Override
    public void onEventTime(InternalTimer<String, VoidNamespace> timer) throws Exception {
        StringData machine = StringData.fromString(timer.getKey());
        long end = timer.getTimestamp() + 1;
        byte[] open = slices.value();
        Readings readings = new Readings(channels);
        byte[] rest = NOTHING;
        boolean isFollowed = false;
        ByteBuffer each = ByteBuffer.wrap(open);
        while (each.hasRemaining()) {
            int begin = each.position();
            long of = each.getLong();
            int bytes = each.getInt();
            int stop = each.position() + bytes;
            if (of <= end) {
                readings.add(open, stop - bytes, stop);
            }
            if (of > end - window + slide) { // a later window holds it
                int length = rest.length;
                rest = Arrays.copyOf(rest, length + stop - begin);
                System.arraycopy(open, begin, rest, length, stop - begin);
                isFollowed |= of <= end;
            }
            each.position(stop);
        }
        if (rest.length == 0) {
            slices.clear();
        } else {
            slices.update(rest);
        }
        if (isFollowed) {
            timers.registerEventTimeTimer(VoidNamespace.INSTANCE, end + slide - 1);
        }
        byte[] packed = readings.packed();
        boolean isCommissioned = commission(machine, end, packed);
        output.collect(
                new StreamRecord<>(
                        GenericRowData.of(
                                machine,
                                end,
                                (long) Readings.count(packed),
                                packed,
                                isCommissioned),
                        end - 1));
    }

    /** Whether a machine is commissioned with this window; emits its first readings if with it. */
    private boolean commission(StringData machine, long end, byte[] packed) throws Exception {
        long now = getProcessingTimeService().getCurrentProcessingTime();
        Tuple2<Long, byte[]> found = first.value();
        byte[] before = found == null || settings.isOver(found.f0, now) ? NOTHING : found.f1;
        if (before.length == COMMISSIONED.length) {
            if (settings.isOld(found.f0, now)) {
                first.update(Tuple2.of(now, COMMISSIONED));
            }
            return true;
        }
        if (end % window != 0) {
            return false;
        }
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
        first.update(Tuple2.of(now, COMMISSIONED));
        output.collect(
                Stream.FIRST_READINGS,
                new StreamRecord<>(GenericRowData.of(machine, end, together), end - 1));
        return true;
    }

    @Override
    public void onProcessingTime(InternalTimer<String, VoidNamespace> timer) {
        throw new UnsupportedOperationException("there are no such timers");
    }
}
