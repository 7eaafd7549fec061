package plantline;

import org.apache.flink.api.common.ExecutionConfig;
import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/**
 * Readings never leave their task: they are handed on as they are, without a copy, and cannot be
 * sent. Flink chains a source and {@link Slicer} unless pipeline.operator-chaining is off.
 */
final class ReadingType extends TypeInformation<Reading> {

    private static final long serialVersionUID = 1;

    @Override
    public boolean isBasicType() {
        return false;
    }

    @Override
    public boolean isTupleType() {
        return false;
    }

    @Override
    public int getArity() {
        return 1;
    }

    @Override
    public int getTotalFields() {
        return 1;
    }

    @Override
    public Class<Reading> getTypeClass() {
        return Reading.class;
    }

    @Override
    public boolean isKeyType() {
        return false;
    }

    @Override
    public TypeSerializer<Reading> createSerializer(SerializerConfig config) {
        return Handed.INSTANCE;
    }

    @Override
    @Deprecated
    public TypeSerializer<Reading> createSerializer(ExecutionConfig config) {
        return Handed.INSTANCE;
    }

    @Override
    public String toString() {
        return "Reading";
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof ReadingType;
    }

    @Override
    public int hashCode() {
        return ReadingType.class.hashCode();
    }

    @Override
    public boolean canEqual(Object other) {
        return other instanceof ReadingType;
    }

    /** A serializer that only "copies". */
    static final class Handed extends TypeSerializerSingleton<Reading> {

        static final Handed INSTANCE = new Handed();
        private static final long serialVersionUID = 1;

        @Override
        public boolean isImmutableType() {
            return true;
        }

        @Override
        public Reading createInstance() {
            return null;
        }

        @Override
        public Reading copy(Reading reading) {
            return reading;
        }

        @Override
        public Reading copy(Reading reading, Reading reuse) {
            return reading;
        }

        @Override
        public int getLength() {
            return -1;
        }

        @Override
        public void serialize(Reading reading, DataOutputView target) {
            throw notSent();
        }

        @Override
        public Reading deserialize(DataInputView source) {
            throw notSent();
        }

        @Override
        public Reading deserialize(Reading reuse, DataInputView source) {
            throw notSent();
        }

        @Override
        public void copy(DataInputView source, DataOutputView target) {
            throw notSent();
        }

        private static UnsupportedOperationException notSent() {
            return new UnsupportedOperationException(
                    "readings stay in their task: pipeline.operator-chaining must be on");
        }

        @Override
        public TypeSerializerSnapshot<Reading> snapshotConfiguration() {
            return new Snapshot();
        }

        /** For Flink. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Reading> {
            public Snapshot() {
                super(() -> INSTANCE);
            }
        }
    }
}
