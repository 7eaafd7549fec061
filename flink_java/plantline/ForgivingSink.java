package plantline;

import org.apache.flink.api.connector.sink2.Committer;
import org.apache.flink.api.connector.sink2.CommitterInitContext;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.StatefulSinkWriter;
import org.apache.flink.api.connector.sink2.SupportsCommitter;
import org.apache.flink.api.connector.sink2.SupportsWriterState;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.ExceptionUtils;

import org.apache.kafka.common.errors.InvalidPidMappingException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.io.IOException;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.stream.Collectors;

/**
 * Flink's Kafka sink, which also starts again from state that is older than the memory of brokers.
 *
 * <p>A job that starts again commits the transactions of its last checkpoint once more. Brokers
 * forget the id of a transaction that ended long ago (transactional.id.expiration.ms), and never
 * that of one that is open: what they do not know any more was committed, unless the state is older
 * than transaction.timeout.ms, after which they abort what nobody commits. Flink takes their answer
 * for a failure, and starts the job again for ever (FLINK-39072).
 *
 * <p>A job that is stopped while brokers are away closes its committers. Kafka's client waits for a
 * commit that is under way without end, and Flink ends a process that does not come to an end, with
 * all its jobs. So nobody waits longer than {@value #CLOSE_WITHIN_MS} ms, and as long again for what
 * it takes to give up; the next start commits once more.
 */
final class ForgivingSink
        implements Sink<RowData>, SupportsWriterState<RowData, Object>, SupportsCommitter<Object> {

    private static final long serialVersionUID = 1L;
    private static final long CLOSE_WITHIN_MS = 5_000;
    private static final Logger LOG = LoggerFactory.getLogger(ForgivingSink.class);

    private final Sink<RowData> kafka;

    /**
     * @param kafka a sink with state and a committer, of whatever classes
     */
    ForgivingSink(Sink<RowData> kafka) {
        this.kafka = kafka;
    }

    @Override
    @Deprecated
    public SinkWriter<RowData> createWriter(InitContext context) throws IOException {
        return kafka.createWriter(context);
    }

    @Override
    public SinkWriter<RowData> createWriter(WriterInitContext context) throws IOException {
        return kafka.createWriter(context);
    }

    @Override
    public StatefulSinkWriter<RowData, Object> restoreWriter(
            WriterInitContext context, Collection<Object> state) throws IOException {
        return stateful().restoreWriter(context, state);
    }

    @Override
    public SimpleVersionedSerializer<Object> getWriterStateSerializer() {
        return stateful().getWriterStateSerializer();
    }

    @Override
    public Committer<Object> createCommitter(CommitterInitContext context) throws IOException {
        return new ForgivingCommitter(committing().createCommitter(context));
    }

    @Override
    public SimpleVersionedSerializer<Object> getCommittableSerializer() {
        return committing().getCommittableSerializer();
    }

    @SuppressWarnings("unchecked")
    private SupportsWriterState<RowData, Object> stateful() {
        return (SupportsWriterState<RowData, Object>) kafka;
    }

    @SuppressWarnings("unchecked")
    private SupportsCommitter<Object> committing() {
        return (SupportsCommitter<Object>) kafka;
    }

    /** Commits, takes what the brokers have forgotten as committed, and closes in time. */
    static final class ForgivingCommitter implements Committer<Object> {

        private final Committer<Object> kafka;
        private final long closeWithinMs;

        ForgivingCommitter(Committer<Object> kafka) {
            this(kafka, CLOSE_WITHIN_MS);
        }

        ForgivingCommitter(Committer<Object> kafka, long closeWithinMs) {
            this.kafka = kafka;
            this.closeWithinMs = closeWithinMs;
        }

        @Override
        public void commit(Collection<CommitRequest<Object>> requests)
                throws IOException, InterruptedException {
            List<CommitRequest<Object>> forgiving =
                    requests.stream().map(ForgivingRequest::new).collect(Collectors.toList());
            kafka.commit(forgiving);
        }

        @Override
        public void close() throws Exception {
            FutureTask<Void> closing =
                    new FutureTask<>(
                            () -> {
                                kafka.close();
                                return null;
                            });
            Thread thread = new Thread(closing, "committer-close");
            thread.setDaemon(true);
            thread.start();
            try {
                thread.join(closeWithinMs);
                if (!thread.isAlive()) {
                    closing.get();
                    return;
                }
                thread.interrupt(); // Kafka's client gives up what it waits for
                thread.join(closeWithinMs);
            } catch (ExecutionException error) {
                ExceptionUtils.rethrowException(error.getCause());
            } finally {
                thread.interrupt(); // if who waits here is interrupted, too
            }
            LOG.warn("A committer did not close in time, it was interrupted: are brokers away?");
        }
    }

    private record ForgivingRequest(Committer.CommitRequest<Object> request)
            implements Committer.CommitRequest<Object> {

        @Override
        public void signalFailedWithUnknownReason(Throwable reason) {
            boolean isForgotten =
                    ExceptionUtils.findThrowable(reason, InvalidPidMappingException.class)
                            .isPresent();
            if (isForgotten) {
                LOG.warn("Brokers have forgotten {}: it was committed", getCommittable());
                request.signalAlreadyCommitted();
            } else {
                request.signalFailedWithUnknownReason(reason);
            }
        }

        @Override
        public Object getCommittable() {
            return request.getCommittable();
        }

        @Override
        public int getNumberOfRetries() {
            return request.getNumberOfRetries();
        }

        @Override
        public void signalFailedWithKnownReason(Throwable reason) {
            request.signalFailedWithKnownReason(reason);
        }

        @Override
        public void retryLater() {
            request.retryLater();
        }

        @Override
        public void updateAndRetryLater(Object committable) {
            request.updateAndRetryLater(committable);
        }

        @Override
        public void signalAlreadyCommitted() {
            request.signalAlreadyCommitted();
        }
    }
}
