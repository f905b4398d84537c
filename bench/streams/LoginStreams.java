import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * The real-time path as a Kafka Streams application, the peer of {@code realtime run}: parses a login, checks it roughly,
 * adds time, region and hour, and writes it to the output topic; what it cannot use goes to the dead-letter topic. It does
 * less than ours on each record: no canonical forms, no headers, no flags, no address classes.
 *
 * <p>Arguments are name=value: brokers, application, input, output, dead-letters, states (the CSV file of the US states),
 * guarantee (at_least_once or exactly_once_v2), state-dir, linger-ms, and until: "end" stops at the offsets that the topic
 * ended at when it started, "stopped" runs until a signal. It prints "running" once the partitions are assigned, and at the
 * end one JSON object with the records and the seconds from then until everything was committed and closed.
 */
public final class LoginStreams {
    private static final Duration LIMIT = Duration.ofMinutes(10);

    private LoginStreams() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = new HashMap<>();
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            settings.put(parts[0], parts[1]);
        }
        boolean untilEnd = settings.get("until").equals("end");
        Map<TopicPartition, Long> ends = untilEnd ? endOffsets(settings.get("brokers"), settings.get("input")) : Map.of();
        Progress progress = new Progress(ends);
        Map<String, String> regions = regions(Path.of(settings.get("states")));
        KafkaStreams streams = new KafkaStreams(topology(settings, progress, regions), properties(settings));
        AtomicLong runningSince = new AtomicLong();
        CountDownLatch stop = untilEnd ? progress.atEnd : new CountDownLatch(1);
        boolean[] failed = {false};
        streams.setStateListener((state, before) -> {
            if (state == KafkaStreams.State.RUNNING && runningSince.compareAndSet(0, System.nanoTime())) {
                System.out.println("running");
            }
        });
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            failed[0] = true;
            progress.release();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        if (!untilEnd) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        }
        streams.start();
        boolean done = stop.await(LIMIT.toSeconds(), TimeUnit.SECONDS);
        boolean closed = streams.close(Duration.ofSeconds(60));
        double seconds = (System.nanoTime() - runningSince.get()) / 1e9;
        if (!done || !closed || failed[0]) {
            System.err.println("not everything was processed: " + progress.records.sum() + " records");
            System.exit(1);
        }
        System.out.printf("{\"records\":%d,\"seconds\":%.3f}%n", progress.records.sum(), seconds);
    }

    private static Properties properties(Map<String, String> settings) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, settings.get("application"));
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, settings.get("brokers"));
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, settings.get("guarantee"));
        properties.put(StreamsConfig.STATE_DIR_CONFIG, settings.get("state-dir"));
        // Compression and batch size as ours has them; the rest as Streams comes.
        properties.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        properties.put(StreamsConfig.producerPrefix("batch.size"), "524288");
        properties.put(StreamsConfig.producerPrefix("buffer.memory"), "67108864");
        properties.put(StreamsConfig.producerPrefix("acks"), "all");
        properties.put(StreamsConfig.producerPrefix("linger.ms"), settings.get("linger-ms"));
        properties.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        return properties;
    }

    private static Topology topology(Map<String, String> settings, Progress progress, Map<String, String> regions) {
        Topology topology = new Topology();
        ByteArrayDeserializer bytesIn = new ByteArrayDeserializer();
        ByteArraySerializer bytesOut = new ByteArraySerializer();
        topology.addSource("logins", bytesIn, bytesIn, settings.get("input"));
        topology.addProcessor("enrich", () -> new Enrich(progress, regions), "logins");
        topology.addSink("processed", settings.get("output"), bytesOut, bytesOut, "enrich");
        topology.addSink("dead-letters", settings.get("dead-letters"), bytesOut, bytesOut, "enrich");
        return topology;
    }

    /** Where each partition that has records ends now. */
    private static Map<TopicPartition, Long> endOffsets(String brokers, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            List<TopicPartitionInfo> partitions =
                    admin.describeTopics(Set.of(topic)).topicNameValues().get(topic).get().partitions();
            Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
            for (TopicPartitionInfo partition : partitions) {
                wanted.put(new TopicPartition(topic, partition.partition()), OffsetSpec.latest());
            }
            Map<TopicPartition, Long> ends = new HashMap<>();
            for (Map.Entry<TopicPartition, ListOffsetsResultInfo> end : admin.listOffsets(wanted).all().get().entrySet()) {
                if (end.getValue().offset() > 0) {
                    ends.put(end.getKey(), end.getValue().offset());
                }
            }
            return ends;
        }
    }

    /** State to region, from the project's own file. */
    private static Map<String, String> regions(Path file) throws IOException {
        List<String> lines = Files.readAllLines(file);
        List<String> header = List.of(lines.get(0).split(","));
        int state = header.indexOf("code");
        int region = header.indexOf("census_region");
        Map<String, String> regions = new HashMap<>();
        for (String line : lines.subList(1, lines.size())) {
            String[] cells = line.split(",");
            regions.put(cells[state], cells[region]);
        }
        return regions;
    }

    /** Counts records, and knows when every partition has reached its end. */
    private static final class Progress {
        final LongAdder records = new LongAdder();
        final CountDownLatch atEnd;
        private final Map<TopicPartition, Long> open;

        Progress(Map<TopicPartition, Long> ends) {
            open = new ConcurrentHashMap<>(ends);
            atEnd = new CountDownLatch(ends.size());
        }

        void handled(String topic, int partition, long offset) {
            records.increment();
            if (open.isEmpty()) {
                return;
            }
            TopicPartition here = new TopicPartition(topic, partition);
            Long end = open.get(here);
            if (end != null && offset + 1 >= end && open.remove(here) != null) {
                atEnd.countDown();
            }
        }

        void release() {
            while (atEnd.getCount() > 0) {
                atEnd.countDown();
            }
        }
    }

    /** One record in, one record out. */
    private static final class Enrich implements Processor<byte[], byte[], byte[], byte[]> {
        private final ObjectMapper json = new ObjectMapper();
        private final Progress progress;
        private final Map<String, String> regions;
        private ProcessorContext<byte[], byte[]> context;

        Enrich(Progress progress, Map<String, String> regions) {
            this.progress = progress;
            this.regions = regions;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            byte[] enriched = enrich(record.value());
            if (enriched == null) {
                context.forward(record, "dead-letters");
            } else {
                context.forward(record.withValue(enriched), "processed");
            }
            context.recordMetadata().ifPresent(at -> progress.handled(at.topic(), at.partition(), at.offset()));
        }

        /** The enriched record, or null for one that cannot be used. */
        private byte[] enrich(byte[] payload) {
            try {
                if (payload == null || !(json.readTree(payload) instanceof ObjectNode login)) {
                    return null;
                }
                JsonNode timestamp = login.path("timestamp");
                if (login.path("user_id").asText().length() != 36
                        || login.path("device_id").asText().isEmpty()
                        || login.path("ip").asText().isEmpty()
                        || !timestamp.isIntegralNumber()) {
                    return null;
                }
                OffsetDateTime time = Instant.ofEpochSecond(timestamp.asLong()).atOffset(ZoneOffset.UTC);
                login.put("event_time", time.toString());
                login.put("processed_timestamp", System.currentTimeMillis());
                login.put("region", regions.getOrDefault(login.path("locale").asText(), "Unknown"));
                login.put("login_date", time.toLocalDate().toString());
                login.put("login_hour", time.getHour());
                return json.writeValueAsBytes(login);
            } catch (IOException notJson) {
                return null;
            }
        }
    }
}
