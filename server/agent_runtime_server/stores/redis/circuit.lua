-- One step of a circuit breaker: core/circuit.py says what it does, and this does the same for all replicas at once.
-- KEYS[1] the circuit; ARGV: the rules, the operation, the moment in ms (empty for the server's own time).
-- Answers {1 or 0, the circuit, the moment}.
local rules, op = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local stored = redis.call('GET', KEYS[1])
local c = stored and cjson.decode(stored) or {
  phase = 'closed', epoch = 0, failures = 0, successes = 0, since = 0, ['until'] = 0, probe_at = 0,
  window = 0, good = 0, bad = 0, trials = {}
}

local function begin(phase)
  c.phase, c.epoch, c.since, c.successes, c.trials = phase, c.epoch + 1, now, 0, {}
  if phase == 'closed' then
    c.failures, c.window, c.good, c.bad = 0, now, 0, 0
  end
end

local function open(made)
  begin('open')
  c.failures = math.max(c.failures, 1)
  c['until'], c.probe_at = now + rules.open_ms, made + rules.probe_ms
end

local function count(good, bad)
  c.good, c.bad = c.good + good, c.bad + bad
  c.failures = good > 0 and bad or c.failures + bad
  local calls = c.good + c.bad
  local too_many = calls >= rules.window_calls and c.bad * 100 >= calls * rules.window_percent
  if bad > 0 and (c.failures >= rules.failures or too_many) then open(now) end
end

if c.phase == 'open' and now >= c['until'] then begin('half_open') end
local held = 0
for trial, ends in pairs(c.trials) do
  if ends > now then held = held + 1 else c.trials[trial] = nil end
end
if now - c.window >= rules.window_ms then c.window, c.good, c.bad = now, 0, 0 end

local answer = 0
if op.kind == 'admit' then
  if c.phase == 'closed' then
    answer = 1
  elseif c.phase == 'half_open' and held < math.min(1 + c.successes, rules.successes) then
    c.trials[op.trial] = now + rules.trial_ms
    answer = 1
  end
elseif op.kind == 'report' and op.epoch == c.epoch then
  if c.phase == 'closed' then
    count(op.good, op.bad)
  elseif c.trials[op.trial] then
    local made = c.trials[op.trial] - rules.trial_ms
    c.trials[op.trial] = nil
    if op.bad > 0 then
      open(made)
    elseif op.good > 0 then
      c.successes = c.successes + 1
      if c.successes >= rules.successes then begin('closed') end
    end
  end
elseif op.kind == 'look' and c.phase == 'open' and now >= c.probe_at then
  c.probe_at = now + rules.probe_ms
  answer = 1
elseif op.kind == 'answered' and c.phase == 'open' and op.epoch == c.epoch then
  begin('half_open')
end

local circuit = cjson.encode(c)
redis.call('SET', KEYS[1], circuit, 'EX', 86400)
return {answer, circuit, now}
