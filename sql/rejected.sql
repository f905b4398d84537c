-- Which records were rejected, why, and when?
--
-- One row for each reason and field, the one with the most records first.
--
--   rank        1 has the most records; equal ones by reason and field
--   reason      why, by the stable names of the event contract
--   field       the member that was wrong; NULL where the whole record was
--   records     rejected records
--   share       fraction of all rejected records, 0 to 1
--   first_seen  Kafka timestamp (UTC) of the first of them; NULL where records carry none
--   last_seen   Kafka timestamp (UTC) of the last of them; NULL where records carry none
--   example     what was said of one of them
--
-- Parameters:
--   $from    date = NULL  first date (UTC) of the Kafka timestamp that counts; NULL is every one
--   $to      date = NULL  last date (UTC) of it that counts; NULL is every one
--   $reason  text = NULL  only records with this reason, as BAD_IP; NULL is every reason
WITH reasons AS (
    SELECT
        reason,
        field,
        count(*) AS records,
        min(kafka_timestamp) AS first_seen,
        max(kafka_timestamp) AS last_seen,
        min(message) AS example
    FROM rejected
    WHERE ($from IS NULL OR CAST(kafka_timestamp AS DATE) >= $from)
        AND ($to IS NULL OR CAST(kafka_timestamp AS DATE) <= $to)
        AND ($reason IS NULL OR reason = $reason)
    GROUP BY reason, field
)
SELECT
    row_number() OVER (ORDER BY records DESC, reason, field NULLS FIRST) AS rank,
    reason,
    field,
    records,
    CAST(records AS DOUBLE) / sum(records) OVER () AS share,
    first_seen,
    last_seen,
    example
FROM reasons
ORDER BY rank;
