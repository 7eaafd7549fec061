package plantline;

import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.ChainingStrategy;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.utils.JoinedRowData;

/**
 * Follows the alerts of a machine from window to window, which come in the order of time. Behind the
 * columns of a window there are three more: was_alert BOOLEAN, whether the window before was an
 * alert; raised_at BIGINT, the end of the window that raised the alert that goes on, or ended last;
 * and end_before BIGINT, the end of the window before. NULL where there is none.
 */
final class Episodes extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData> {

    private static final long serialVersionUID = 1;

    private static final long NEVER = Long.MIN_VALUE;

    private final Settings settings;
    private final int endPlace;
    private final int alertPlace;

    // Of the last window: whether it was an alert, its end, and raised_at.
    private transient ValueState<Tuple3<Boolean, Long, Long>> last;

    /**
     * @param endPlace of the column window_end BIGINT
     * @param alertPlace of the column is_alert BOOLEAN
     */
    Episodes(Settings settings, int endPlace, int alertPlace) {
        this.settings = settings;
        this.endPlace = endPlace;
        this.alertPlace = alertPlace;
        chainingStrategy = ChainingStrategy.ALWAYS;
    }

    @Override
    public void open() throws Exception {
        super.open();
        ValueStateDescriptor<Tuple3<Boolean, Long, Long>> descriptor =
                new ValueStateDescriptor<>(
                        "last", Types.TUPLE(Types.BOOLEAN, Types.LONG, Types.LONG));
        descriptor.enableTimeToLive(settings.whileWritten());
        last = getRuntimeContext().getState(descriptor);
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData window = element.getValue();
        boolean isAlert = window.getBoolean(alertPlace);
        long end = window.getLong(endPlace);
        Tuple3<Boolean, Long, Long> before = last.value();
        boolean wasAlert = before != null && before.f0;
        long raisedAt = isAlert && !wasAlert ? end : before == null ? NEVER : before.f2;
        last.update(Tuple3.of(isAlert, end, raisedAt));
        output.collect(
                new StreamRecord<>(
                        new JoinedRowData(
                                window,
                                GenericRowData.of(
                                        before == null ? null : wasAlert,
                                        raisedAt == NEVER ? null : raisedAt,
                                        before == null ? null : before.f1))));
    }
}
