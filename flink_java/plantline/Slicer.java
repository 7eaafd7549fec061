package plantline;

import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.ChainingStrategy;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.util.OutputTag;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;

/**
 * The task that reads a record also decides on it, and collects what is good: of the readings of a
 * machine in a slice (the slide of windows) one row goes on, with all of them.
 *
 * <ul>
 *   <li>Slices (machine, end, readings as {@link Readings} keeps them) go on when event time passes
 *       their end, and what there is of them before each checkpoint, so that none is ever kept here.
 *   <li>A record that is refused goes on in {@link Stream#REFUSALS}: for what its decoder found, for
 *       a clock that is ahead of its arrival, or since it is late. Good and refused part the input.
 *   <li>A reading that brings its machine into another zone goes on in {@link Stream#ZONES} at once.
 * </ul>
 *
 * <p>Event time begins where it was when the checkpoint was taken. Flink's sources begin without
 * any, and have none until each of their partitions gave a record. What comes in between and is late
 * would open a window again that has gone on. So the time of all sources is remembered: after a
 * restart it is the earliest of theirs, which is that of the windows.
 */
final class Slicer extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<Reading, RowData> {

    private static final long serialVersionUID = 1;

    private static final String CLOCK_AHEAD = "clock_ahead";
    private static final String LATE = "late";

    private final Settings settings;
    private final int channels;

    private transient Map<Long, Slice> slices; // by their end, in the order of time
    private transient Slice last;
    private transient Zones zones; // null without checks
    private transient int[] checked; // places of the channels that are checked
    private transient double[] checkedValues;
    private transient Zones.Changes changes;
    private transient Reading judged; // while it is
    private transient Map<String, StringData> names; // of reasons, channels and kinds

    private transient ListState<Long> kept;
    private transient long eventTime;
    private transient boolean isTold; // to those behind, after a restart

    /** The readings of all machines until one end. */
    private static final class Slice {
        private final long end;
        private final List<Part> parts = new ArrayList<>();

        private Slice(long end) {
            this.end = end;
        }
    }

    /**
     * Those of one machine, linked with its parts of later and earlier slices: one or two as a rule,
     * many where the job catches up and event time waits for another partition.
     */
    static final class Part extends Readings {
        private final Slice slice;
        private final MachineTable.Machine machine;
        private Part later;
        private Part earlier;

        private Part(Slice slice, MachineTable.Machine machine, int channels) {
            super(channels);
            this.slice = slice;
            this.machine = machine;
        }
    }

    Slicer(Settings settings) {
        this.settings = settings;
        channels = settings.channels().size();
        chainingStrategy = ChainingStrategy.ALWAYS; // with the source: readings are not sent
    }

    @Override
    public void open() throws Exception {
        super.open();
        slices = new TreeMap<>();
        names = new HashMap<>();
        if (settings.checks().isEmpty()) {
            return;
        }
        checked =
                IntStream.range(0, channels)
                        .filter(place -> settings.channels().get(place).isChecked())
                        .toArray();
        checkedValues = new double[checked.length];
        changes = this::enter;
        zones = new Zones(Check.parse(settings.checks(), checked.length));
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        eventTime = Long.MIN_VALUE;
        isTold = true;
        kept =
                context.getOperatorStateStore()
                        .getUnionListState(new ListStateDescriptor<>("event-time", Types.LONG));
        if (!context.isRestored()) {
            return;
        }
        long earliest = Long.MAX_VALUE;
        for (long time : kept.get()) {
            earliest = Math.min(earliest, time);
        }
        if (earliest != Long.MIN_VALUE && earliest != Long.MAX_VALUE) {
            eventTime = earliest;
            isTold = false;
        }
    }

    @Override
    public void processElement(StreamRecord<Reading> element) throws Exception {
        if (!isTold) {
            isTold = true;
            super.processWatermark(new Watermark(eventTime));
        }
        Reading reading = element.getValue();
        if (reading.reason != null) {
            refuse(reading, reading.reason, reading.detail);
        } else if (reading.isClock()) {
            return; // event time has been moved
        } else if (reading.ts > reading.record.timestamp() + settings.ahead()) {
            long ahead = (reading.ts - reading.record.timestamp()) / 1000;
            refuse(reading, CLOCK_AHEAD, "ts is ahead of its arrival by " + ahead + " s");
        } else if (reading.ts <= eventTime) {
            long behind = (eventTime - reading.ts) / 1000;
            refuse(reading, LATE, "ts is behind event time by " + behind + " s");
        } else {
            if (zones != null) {
                judge(reading);
            }
            add(reading);
        }
    }

    private void add(Reading reading) {
        long end = reading.ts - reading.ts % settings.slide() + settings.slide();
        if (last == null || last.end != end) {
            last = slices.computeIfAbsent(end, Slice::new);
        }
        partOf(reading.machine).add(reading.ts, reading.values);
    }

    /** The machine's part of the last slice; nearly always its latest one, or a new one behind that. */
    private Part partOf(MachineTable.Machine machine) {
        Part later = null;
        Part part = machine.open;
        while (part != null && part.slice.end > last.end) {
            later = part;
            part = part.earlier;
        }
        if (part != null && part.slice == last) {
            return part;
        }
        Part made = new Part(last, machine, channels);
        link(made, part);
        if (later == null) {
            machine.open = made;
        } else {
            link(later, made);
        }
        last.parts.add(made);
        return made;
    }

    private static void link(Part later, Part earlier) {
        later.earlier = earlier;
        if (earlier != null) {
            earlier.later = later;
        }
    }

    private static void unlink(Part part) {
        if (part.later != null) {
            link(part.later, part.earlier);
            return;
        }
        part.machine.open = part.earlier;
        if (part.earlier != null) {
            part.earlier.later = null;
        }
    }

    private void judge(Reading reading) {
        for (int i = 0; i < checked.length; i++) {
            checkedValues[i] = reading.values[checked[i]];
        }
        judged = reading;
        zones.judge(reading.machine, reading.ts, checkedValues, changes);
    }

    private void enter(Check check, int zone, double value, double threshold) {
        emit(
                Stream.ZONES,
                GenericRowData.of(
                        judged.machine.name,
                        judged.ts,
                        name(check.channel),
                        name(check.kind),
                        zone,
                        value,
                        Double.isNaN(threshold) ? null : threshold));
    }

    private void refuse(Reading reading, String reason, String detail) {
        byte[] raw = reading.record.value();
        if (raw != null && raw.length > settings.maxRawBytes()) {
            detail += "; cut, it had " + raw.length + " bytes";
            raw = Arrays.copyOf(raw, settings.maxRawBytes());
        }
        emit(
                Stream.REFUSALS,
                GenericRowData.of(
                        reading.record.key(),
                        raw,
                        reading.record.partition(),
                        reading.record.offset(),
                        name(reason),
                        StringData.fromString(detail)));
    }

    private StringData name(String text) {
        return names.computeIfAbsent(text, StringData::fromString);
    }

    private void emit(OutputTag<RowData> where, RowData row) {
        output.collect(where, new StreamRecord<>(row));
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        if (mark.getTimestamp() > eventTime) {
            eventTime = mark.getTimestamp();
            isTold = true;
            emitSlices(eventTime);
            super.processWatermark(mark);
        }
    }

    @Override
    public void prepareSnapshotPreBarrier(long checkpoint) {
        emitSlices(Long.MAX_VALUE);
    }

    @Override
    public void finish() throws Exception {
        emitSlices(Long.MAX_VALUE);
        super.finish();
    }

    /** Those whose last millisecond is not after a time. */
    private void emitSlices(long until) {
        for (var each = slices.values().iterator(); each.hasNext(); each.remove()) {
            Slice slice = each.next();
            if (slice.end - 1 > until) {
                return;
            }
            for (Part part : slice.parts) {
                unlink(part);
                output.collect(
                        new StreamRecord<>(
                                GenericRowData.of(part.machine.name, slice.end, part.rows())));
            }
            last = last == slice ? null : last;
        }
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        kept.update(List.of(eventTime));
    }
}
