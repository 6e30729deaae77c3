-- Draws from several token buckets at once: core/buckets.py says how, and this does the same for all replicas.
-- KEYS the buckets; ARGV: the moment in ms (empty for the server's own time), and of each bucket its amount,
-- its capacity, what it has to hold (empty for whatever it holds) and what is taken, the latter three in parts.
-- Answers {the wait in ms, the place from 1 of the bucket that refuses}, {0, 0} when all was taken.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function until_holds(level, parts, amount)
  return math.max(0, math.ceil((parts - level) / amount))
end

local stored = redis.call('MGET', unpack(KEYS))
local levels, moments = {}, {}
local longest, refuses = 0, 0
for i = 1, #KEYS do
  local at = 4 * i - 2
  local amount, capacity, needed = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local level, since = capacity, now
  if stored[i] then
    local parts, moment = string.match(stored[i], '^(%S+) (%S+)$')
    level, since = tonumber(parts), tonumber(moment)
  end
  local passed = math.max(0, now - since)
  levels[i], moments[i] = math.min(capacity, level + passed * amount), since + passed
  local wait = needed and until_holds(levels[i], needed, amount) or 0
  if wait > 0 then wait = wait + moments[i] - now end
  if wait > longest then longest, refuses = wait, i end
end
if longest > 0 then return {longest, refuses} end

for i = 1, #KEYS do
  local at = 4 * i - 2
  local amount, capacity, cost = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  local left = math.max(-2 ^ 53, levels[i] - cost)
  local full = moments[i] - now + until_holds(left, capacity, amount)
  if full > 0 then
    redis.call('SET', KEYS[i], string.format('%.0f %.0f', left, moments[i]), 'PX', string.format('%.0f', full + 60000))
  else
    redis.call('DEL', KEYS[i])
  end
end
return {0, 0}
