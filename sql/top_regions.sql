-- Which regions log in most, and which divisions within them?
--
-- One row for each division, the regions with the most logins first. Regions and divisions are those of the US Census
-- Bureau; Territories, International and Unknown stand for what is outside of them.
--
--   region_rank    1 is the region with the most logins; equal ones by name
--   region         name of the region
--   region_logins  logins of the region
--   region_share   fraction of all logins, 0 to 1
--   division_rank  1 is the division with the most logins of its region; equal ones by name
--   division       name of the division
--   logins         logins of the division
--   share          fraction of all logins, 0 to 1
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that counts; NULL is every one
--   $to      date = NULL  last date (UTC) that counts; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH divisions AS (
    SELECT region, division, count(*) AS logins
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY region, division
),
totals AS (
    SELECT
        region,
        division,
        logins,
        sum(logins) OVER (PARTITION BY region) AS region_logins,
        sum(logins) OVER () AS all_logins
    FROM divisions
)
SELECT
    dense_rank() OVER (ORDER BY region_logins DESC, region) AS region_rank,
    region,
    region_logins,
    CAST(region_logins AS DOUBLE) / all_logins AS region_share,
    row_number() OVER (PARTITION BY region ORDER BY logins DESC, division) AS division_rank,
    division,
    logins,
    CAST(logins AS DOUBLE) / all_logins AS share
FROM totals
ORDER BY region_rank, division_rank;
