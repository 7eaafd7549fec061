package plantline;

import org.apache.flink.api.connector.sink2.Committer;

import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.InvalidPidMappingException;
import org.apache.kafka.common.errors.ProducerFencedException;

import java.util.Collection;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/**
 * Prints what becomes of commits, one a line, where Kafka's committer fails in various ways; then how
 * one is closed that waits for a broker until it is interrupted, for ever, or not at all.
 */
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
        CountDownLatch broker = new CountDownLatch(1);
        Closing untilInterrupted = broker::await;
        Closing forEver =
                () -> {
                    while (broker.getCount() > 0) {
                        try {
                            broker.await();
                        } catch (InterruptedException interrupted) {
                            // as if nothing had been said
                        }
                    }
                };
        Closing failing =
                () -> {
                    throw new KafkaException("it fails");
                };
        for (Closing closing : List.of(untilInterrupted, forEver, failing)) {
            try {
                new ForgivingSink.ForgivingCommitter(new Endless(closing), 100).close();
                System.out.println("closed");
            } catch (KafkaException error) {
                System.out.println(error.getMessage().replace(' ', '-'));
            }
        }
    }

    private interface Closing {
        void close() throws Exception;
    }

    private record Endless(Closing closing) implements Committer<Object> {

        @Override
        public void commit(Collection<CommitRequest<Object>> requests) {}

        @Override
        public void close() throws Exception {
            closing.close();
        }
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
