package plantline;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Logs as the class that its first argument names what the others say. */
public final class LogHarness {
    public static void main(String[] arguments) {
        Logger log = LoggerFactory.getLogger(arguments[0]);
        for (int i = 1; i < arguments.length; i++) {
            log.warn(arguments[i]);
        }
    }
}
