-- At which hours does each region log in most?
--
-- The three hours with the most logins of each region, the regions with the most logins first. The hour is the one of
-- the state's own clock, and of UTC where there is no state (Territories, International, Unknown).
--
--   region           name of the region
--   region_logins    logins of the region
--   rank             1 is the region's hour with the most logins; equal ones by hour
--   hour_of_day      0 to 23
--   clock            whose hour it is: local or UTC
--   logins           logins of the region in that hour
--   share_of_region  fraction of the region's logins, 0 to 1
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that counts; NULL is every one
--   $to      date = NULL  last date (UTC) that counts; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH hours AS (
    SELECT region, login_hour, local_hour, count(*) AS logins
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY region, login_hour, local_hour
),
clocks AS (
    SELECT
        region,
        coalesce(local_hour, login_hour) AS hour_of_day,
        CASE WHEN local_hour IS NULL THEN 'UTC' ELSE 'local' END AS clock,
        sum(logins) AS logins
    FROM hours
    GROUP BY
        region,
        coalesce(local_hour, login_hour),
        CASE WHEN local_hour IS NULL THEN 'UTC' ELSE 'local' END
),
ranked AS (
    SELECT
        region,
        hour_of_day,
        clock,
        logins,
        sum(logins) OVER (PARTITION BY region) AS region_logins,
        row_number() OVER (PARTITION BY region ORDER BY logins DESC, hour_of_day, clock) AS position_of_hour
    FROM clocks
)
SELECT
    region,
    region_logins,
    position_of_hour AS rank,
    hour_of_day,
    clock,
    logins,
    CAST(logins AS DOUBLE) / region_logins AS share_of_region
FROM ranked
WHERE position_of_hour <= 3
ORDER BY region_logins DESC, region, rank;
