package plantline;

import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.TwoInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;

/**
 * Gives each window of a commissioned machine its reference. A window is never judged by a reference
 * from its own future, however late the references come.
 *
 * <p>First input: windows, of which the last column says whether their machine is commissioned
 * ({@link Windows}). Second: references, one each time that a machine is. A window waits until event
 * time has passed it on both sides. It waits in memory; where one waits at a checkpoint, which those
 * with aligned barriers never see, it is written to the state.
 */
final class Commissioned extends AbstractStreamOperator<RowData>
        implements TwoInputStreamOperator<RowData, RowData, RowData> {

    private static final long serialVersionUID = 1;

    private final Settings settings;
    private final TypeInformation<RowData> windowType;

    // When this was written, the clock of the host; and the reference.
    private transient ValueState<Tuple2<Long, byte[]>> reference;
    private transient ListState<RowData> kept; // of this machine, at the last checkpoint
    private transient List<String> keptOf;
    private transient Deque<RowData> waiting; // in the order of time

    Commissioned(Settings settings, TypeInformation<RowData> windowType) {
        this.settings = settings;
        this.windowType = windowType;
    }

    @Override
    public void open() throws Exception {
        super.open();
        var bytes = PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
        ValueStateDescriptor<Tuple2<Long, byte[]>> ofReference =
                new ValueStateDescriptor<>("reference", Types.TUPLE(Types.LONG, bytes));
        ofReference.enableTimeToLive(settings.whileWritten());
        reference = getRuntimeContext().getState(ofReference);
        ListStateDescriptor<RowData> windows = new ListStateDescriptor<>("windows", windowType);
        kept = getRuntimeContext().getListState(windows);
        keptOf = new ArrayList<>();
        List<RowData> restored = new ArrayList<>();
        getKeyedStateBackend()
                .applyToAllKeys(
                        VoidNamespace.INSTANCE,
                        VoidNamespaceSerializer.INSTANCE,
                        windows,
                        (machine, state) -> {
                            keptOf.add((String) machine);
                            ((ListState<RowData>) state).get().forEach(restored::add);
                        });
        restored.sort(Comparator.comparingLong(Commissioned::end));
        waiting = new ArrayDeque<>(restored);
    }

    @Override
    public void processElement1(StreamRecord<RowData> window) {
        waiting.add(window.getValue());
    }

    @Override
    public void processElement2(StreamRecord<RowData> element) throws Exception {
        reference.update(Tuple2.of(now(), element.getValue().getBinary(1)));
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        while (!waiting.isEmpty() && end(waiting.peek()) - 1 <= mark.getTimestamp()) {
            RowData window = waiting.remove();
            output.collect(
                    new StreamRecord<>(
                            GenericRowData.of(
                                    window.getString(0),
                                    window.getLong(1),
                                    window.getLong(2),
                                    window.getBinary(3),
                                    window.getBoolean(4) ? referenceOf(window) : null),
                            end(window) - 1));
        }
        super.processWatermark(mark);
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        for (String machine : keptOf) {
            setCurrentKey(machine);
            kept.clear();
        }
        keptOf.clear();
        for (RowData window : waiting) {
            String machine = Stream.machine(window);
            setCurrentKey(machine);
            kept.add(window);
            keptOf.add(machine);
        }
    }

    private byte[] referenceOf(RowData window) throws Exception {
        setCurrentKey(Stream.machine(window));
        Tuple2<Long, byte[]> found = reference.value();
        if (found == null) {
            return null;
        }
        if (settings.isOld(found.f0, now())) {
            reference.update(Tuple2.of(now(), found.f1));
        }
        return found.f1;
    }

    private long now() {
        return getProcessingTimeService().getCurrentProcessingTime();
    }

    private static long end(RowData row) {
        return row.getLong(1);
    }
}
