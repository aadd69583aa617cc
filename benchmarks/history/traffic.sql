-- Traffic of one day that begins at {start}: the requests of 200 bots, of which `rows` come in `days`. Put into the queries
-- beside this one in place of `traffic`.
(
    SELECT
        bot,
        concat('bot-', leftPad(toString(bot), 3, '0')) AS bot_id,
        n,
        intDiv(n, 5) AS conversation,
        sipHash64(bot, {start:Int64}, conversation) AS begun,
        sipHash64(bot, {start:Int64}, n, 'own') AS own,
        -- Of a bot's visitors some come more often than others.
        toUInt32(pow(begun % 65536 / 65536, 1.5) * greatest(20, requests_a_day * {days:UInt32} / 25)) AS visitor,
        sipHash64(bot, visitor) AS who,
        -- More in the afternoon than at night.
        intDiv(begun, 65536) % 16777216 / 16777216 AS share_of_day,
        {start:Int64} + toInt64((share_of_day + 0.11 * sin(2 * pi() * share_of_day)) * 86160000)
            + n % 5 * 45000 + own % 40000 AS event_ms,
        toUInt32(pow(41, who % 1000 / 1000)) - 1 AS country_number,
        who % 30 = 0 AS is_nowhere,
        if(is_nowhere, '', concat(char(65 + country_number % 26), char(65 + intDiv(country_number, 26)))) AS country
    FROM
    (
        SELECT
            number AS bot,
            pow(bot + 1, -0.8) / (SELECT sum(pow(number + 1, -0.8)) FROM numbers({bots:UInt32})) AS share,
            toUInt32(greatest(5, round({rows:UInt64} / {days:UInt32} * share))) AS requests_a_day
        FROM numbers({bots:UInt32})
    )
    ARRAY JOIN range(requests_a_day) AS n
)
