package plantline;

import org.apache.flink.api.connector.sink2.Committer;

import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.InvalidPidMappingException;
import org.apache.kafka.common.errors.ProducerFencedException;

import java.util.Collection;
import java.util.List;

/** Prints what becomes of commits, one a line, where Kafka's committer fails in various ways. */
public final class CommitHarness {

    public static void main(String[] arguments) throws Exception {
        List<Throwable> failures =
                List.of(
                        new InvalidPidMappingException("forgotten"),
                        new KafkaException("a cause", new InvalidPidMappingException("forgotten")),
                        new ProducerFencedException("fenced"));
        Committer<Object> kafka =
                new Committer<>() {
                    @Override
                    public void commit(Collection<CommitRequest<Object>> requests) {
                        int number = 0;
                        for (CommitRequest<Object> request : requests) {
                            request.signalFailedWithUnknownReason(failures.get(number++));
                        }
                    }

                    @Override
                    public void close() {}
                };
        List<Committer.CommitRequest<Object>> requests =
                List.of(new Request(), new Request(), new Request());
        new ForgivingSink.ForgivingCommitter(kafka).commit(requests);
    }

    private static final class Request implements Committer.CommitRequest<Object> {

        @Override
        public Object getCommittable() {
            return "a transaction";
        }

        @Override
        public int getNumberOfRetries() {
            return 0;
        }

        @Override
        public void signalFailedWithKnownReason(Throwable reason) {
            System.out.println("lost");
        }

        @Override
        public void signalFailedWithUnknownReason(Throwable reason) {
            System.out.println("failed");
        }

        @Override
        public void retryLater() {
            System.out.println("later");
        }

        @Override
        public void updateAndRetryLater(Object committable) {
            System.out.println("later");
        }

        @Override
        public void signalAlreadyCommitted() {
            System.out.println("committed");
        }
    }
}
