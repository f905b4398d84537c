-- Which kinds of devices do people log in with?
--
-- One row for each kind, the one with the most logins first.
--
--   rank         1 has the most logins; equal ones by name
--   device_type  android, ios, web, other, or unknown where the event did not say
--   logins       logins with it
--   share        fraction of all logins, 0 to 1
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that counts; NULL is every one
--   $to      date = NULL  last date (UTC) that counts; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH devices AS (
    SELECT device_type, count(*) AS logins
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY device_type
)
SELECT
    row_number() OVER (ORDER BY logins DESC, device_type) AS rank,
    device_type,
    logins,
    CAST(logins AS DOUBLE) / sum(logins) OVER () AS share
FROM devices
ORDER BY rank;
