package plantline;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Logs what its arguments say, as Flink's metrics do. */
public final class LogHarness {
    public static void main(String[] messages) {
        Logger log = LoggerFactory.getLogger("org.apache.flink.metrics.MetricGroup");
        for (String message : messages) {
            log.warn(message);
        }
    }
}
