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
import org.apache.flink.table.data.RowData;

import java.util.List;

/**
 * Event time from where it was when the checkpoint was taken.
 *
 * <p>Flink's sources begin without any, and have none until each of their partitions gave a record;
 * its windows do remember (org.apache.flink.table.runtime.operators.window.tvf.common:
 * WindowAggOperator). What comes in between and is late would be found so by the windows alone,
 * which drop it or, worse, count it in some of the windows that it belongs to. So the time of all
 * sources is remembered as the windows remember it: after a restart it is the earliest of theirs.
 */
final class EventTime extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData> {

    private static final long serialVersionUID = 1;

    private transient ListState<Long> kept;
    private transient long current;
    private transient boolean isTold; // to those behind, after a restart

    EventTime() {
        chainingStrategy = ChainingStrategy.ALWAYS; // with the source: rows are handed on as they are
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        current = Long.MIN_VALUE;
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
            current = earliest;
            isTold = false;
        }
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        kept.update(List.of(current));
    }

    @Override
    public void processElement(StreamRecord<RowData> row) throws Exception {
        if (!isTold) {
            isTold = true;
            super.processWatermark(new Watermark(current));
        }
        output.collect(row);
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        if (mark.getTimestamp() > current) {
            current = mark.getTimestamp();
            isTold = true;
            super.processWatermark(mark);
        }
    }
}
