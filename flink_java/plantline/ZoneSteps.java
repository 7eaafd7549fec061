package plantline;

import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.utils.JoinedRowData;

/**
 * Remembers which checks of a machine are outside their bounds, over restarts as well, after which
 * {@link Zones} tells again what it has told before. What is no news drops out. Behind the columns of
 * {@link Stream#ZONES} there are three more: zone_before INT, the zone that is left; and, where that
 * is not the inside, ts_before BIGINT and threshold_before DOUBLE of the step that entered it.
 *
 * <p>Of a machine that is well nothing is kept: the inside is where every check begins. What has been
 * outside for three times as long as machines are remembered is forgotten, whether the machine sends
 * or not.
 */
final class ZoneSteps extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData> {

    private static final long serialVersionUID = 1;

    private static final int INSIDE = 0;
    private static final Tuple3<Integer, Long, Double> NONE = Tuple3.of(INSIDE, null, null);

    private final Settings settings;

    // By channel and kind of a check that is outside: zone, ts and threshold of the step into it.
    private transient MapState<String, Tuple3<Integer, Long, Double>> outside;

    ZoneSteps(Settings settings) {
        this.settings = settings;
    }

    @Override
    public void open() throws Exception {
        super.open();
        MapStateDescriptor<String, Tuple3<Integer, Long, Double>> descriptor =
                new MapStateDescriptor<>(
                        "outside",
                        Types.STRING,
                        Types.TUPLE(Types.INT, Types.LONG, Types.DOUBLE));
        descriptor.enableTimeToLive(settings.whileWritten());
        outside = getRuntimeContext().getMapState(descriptor);
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData told = element.getValue();
        String check = told.getString(2) + " " + told.getString(3);
        int zone = told.getInt(4);
        Tuple3<Integer, Long, Double> found = outside.get(check);
        Tuple3<Integer, Long, Double> before = found == null ? NONE : found;
        if (zone == before.f0) {
            return;
        }
        if (zone == INSIDE) {
            outside.remove(check);
        } else {
            outside.put(check, Tuple3.of(zone, told.getLong(1), told.getDouble(6)));
        }
        output.collect(
                new StreamRecord<>(
                        new JoinedRowData(
                                told, GenericRowData.of(before.f0, before.f1, before.f2))));
    }
}
