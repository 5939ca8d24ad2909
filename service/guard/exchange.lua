-- What a member says, taken, and what it asks, answered: in one step. The twin of tallies.py; change them together.
--
-- KEYS: 1 members (hash: member -> number of its last message)   2 alive (sorted set: member -> end of its lease, ms)
--       3 ready (ms from which asks are answered)                4 counters that this member has a share in (set)
--       5.. the counters of this message
-- ARGV: 1 the message, JSON. Money comes and goes as strings of digits: a double holds nine thousand dollars exactly,
--       a 64-bit integer nine million. Redis adds them up; they are compared here by length and letters.
--
-- Fields of a money counter: u (used by all), s:<member> (settled), h:<member> (held). Of a bucket: level, at.
-- Of slots: one per member.

local MINUTE_MS, DRAIN_MS_MAX, IDLE_MS, SLOTS_MS = 60000, 120000, 240000, 86400000
local TAKEN, UNKNOWN, OLD, GATHERING = 0, 1, 2, 3

local message = cjson.decode(ARGV[1])
local member, shares, asks = message.m, message.s, message.a
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function digits(number) return string.format('%.0f', number) end

local function larger(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function add(key, field, amount)
  if amount ~= '0' then redis.call('HINCRBY', key, field, amount) end
end

local function subtract(key, field, amount)
  if amount ~= '0' then redis.call('HINCRBY', key, field, '-' .. amount) end
end

local function begun(key, until_ms)
  redis.call('SADD', KEYS[4], key)
  if until_ms > 0 then redis.call('PEXPIREAT', key, digits(until_ms)) end
end

-- A bucket as it is now.
local function drained(key, limit)
  local found = redis.call('HMGET', key, 'level', 'at')
  if not found[1] then return 0 end
  if now < tonumber(found[2]) then -- the clock was set back: begin again from here
    redis.call('HSET', key, 'at', digits(now))
    return tonumber(found[1])
  end
  local elapsed = math.min(now - tonumber(found[2]), DRAIN_MS_MAX)
  return math.max(0, tonumber(found[1]) - elapsed * limit)
end

local function fill(key, level, limit)
  redis.call('HSET', key, 'level', digits(math.min(math.max(0, level), limit * DRAIN_MS_MAX)), 'at', digits(now))
  redis.call('PEXPIRE', key, IDLE_MS)
end

-- What a member has in a counter: {place of its key, kind, until_ms, settled, held, known, limit}.
local function take(share)
  local key = KEYS[4 + share[1]]
  if share[2] == 'm' then
    local s, h = 's:' .. member, 'h:' .. member
    local had = redis.call('HMGET', key, s, h)
    local settled, held = had[1] or '0', had[2] or '0'
    if larger(share[4], settled) then
      add(key, 'u', share[4])
      subtract(key, 'u', settled)
      settled = share[4]
    end
    if share[5] ~= held then
      add(key, 'u', share[5])
      subtract(key, 'u', held)
    end
    redis.call('HSET', key, s, settled, h, share[5])
    if not had[2] then begun(key, share[3]) end
  elseif share[2] == 'r' then
    fill(key, drained(key, share[7]) + share[5] * MINUTE_MS, share[7])
  else
    redis.call('HSET', key, member, digits(share[5]))
    redis.call('PEXPIRE', key, SLOTS_MS)
    redis.call('SADD', KEYS[4], key)
  end
end

if message.e then -- a member that is no more, told of by its ledger
  for _, share in ipairs(shares) do
    local gone = share[3] == 0 and redis.call('EXISTS', KEYS[4 + share[1]]) == 0 -- a window that is over: let it be
    if share[2] == 'm' and not gone then
      take(share)
      redis.call('HDEL', KEYS[4 + share[1]], 'h:' .. member) -- should it come back after all, it begins anew
    elseif share[2] == 'c' then
      redis.call('HDEL', KEYS[4 + share[1]], member)
    end
  end
  if message.z then
    redis.call('DEL', KEYS[4])
    redis.call('HDEL', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
  end
  return {TAKEN, 0, {}, 0}
end

local stored, ready = redis.call('HGET', KEYS[1], member), redis.call('GET', KEYS[3])
local function forgets() -- what was said is lost: everybody is to say it again
  redis.call('DEL', KEYS[1], KEYS[3])
  return {UNKNOWN, 0, {}, 0}
end

-- Whether this is an older copy of what the member spoke with: others may not have noticed yet.
local function lacks()
  if stored and tonumber(stored) < message.b then return true end
  if not ready or message.r == 0 then return false end
  return tonumber(ready) < message.r or (tonumber(ready) == message.r and not stored)
end

-- Whether a counter that the member has a share in is gone, or that share is.
local function has_lost()
  local function gone(place) return redis.call('HEXISTS', KEYS[4 + place], 's:' .. member) == 0 end
  for _, share in ipairs(shares) do
    if share[6] and share[2] == 'm' and gone(share[1]) then return true end
  end
  for _, place in ipairs(message.k) do
    if gone(place) then return true end
  end
  return false
end

if message.j then
  if lacks() then
    redis.call('DEL', KEYS[1])
    stored, ready = false, false
  end
  if not ready then
    ready = digits(now + message.g)
    redis.call('SET', KEYS[3], ready)
  end
elseif ready and (lacks() or (stored and has_lost())) then
  return forgets()
elseif not stored or not ready then
  return {UNKNOWN, 0, {}, 0}
end
if tonumber(ready) > now + message.g then -- the clock was set back
  ready = digits(now + message.g)
  redis.call('SET', KEYS[3], ready)
end
if stored and message.n <= tonumber(stored) then return {OLD, 0, {}, 0} end

redis.call('HSET', KEYS[1], member, digits(message.n))
redis.call('ZADD', KEYS[2], digits(now + message.l), member)
for _, share in ipairs(shares) do take(share) end
if now < tonumber(ready) then return {GATHERING, tonumber(ready) - now, {}, tonumber(ready)} end

local alive = {}
local function is_alive(one)
  if one == member then return true end
  if alive[one] == nil then
    local lease = redis.call('ZSCORE', KEYS[2], one)
    alive[one] = lease and tonumber(lease) > now or false
  end
  return alive[one]
end

local function slots_used(key)
  local count, held = 0, redis.call('HGETALL', key)
  for at = 1, #held, 2 do
    if is_alive(held[at]) then count = count + tonumber(held[at + 1]) end
  end
  return count
end

-- {used with the line, whether it fits, how long until it could}. Money is added at once, and taken back when the
-- alternative does not fit: nobody sees what is between.
local function tried(line)
  local key, kind, amount, limit, soft = KEYS[4 + line[1]], line[2], line[4], line[5], line[6]
  if kind == 'm' then
    add(key, 'u', amount)
    local used = redis.call('HGET', key, 'u') or '0'
    return used, soft or not larger(used, limit), 0
  elseif kind == 'r' then
    local used = drained(key, limit) + amount * MINUTE_MS
    local over = used - limit * MINUTE_MS
    local wait = 0
    if over > 0 and amount > 0 and amount <= limit then wait = math.ceil(over / limit) end
    return digits(used), soft or over <= 0, wait
  end
  local used = slots_used(key) + amount
  return digits(used), soft or used <= limit, amount <= limit and 1000 or 0
end

local function grow(line, used)
  local key, kind, amount = KEYS[4 + line[1]], line[2], line[4]
  if kind == 'm' then
    redis.call('HSETNX', key, 's:' .. member, '0')
    if redis.call('HSETNX', key, 'h:' .. member, '0') == 1 then begun(key, line[3]) end
    redis.call('HINCRBY', key, 'h:' .. member, amount)
  elseif kind == 'r' then
    fill(key, tonumber(used), line[5])
  else
    redis.call('HINCRBY', key, member, digits(amount))
    redis.call('PEXPIRE', key, SLOTS_MS)
    redis.call('SADD', KEYS[4], key)
  end
end

local function without(line, used)
  local key = KEYS[4 + line[1]]
  if line[2] == 'm' then
    subtract(key, 'u', line[4])
    local left = redis.call('HGET', key, 'u') or '0'
    if left == '0' and redis.call('HLEN', key) == 1 then redis.call('DEL', key) end
    return left
  elseif line[2] == 'r' then
    return digits(tonumber(used) - line[4] * MINUTE_MS)
  end
  return digits(tonumber(used) - line[4])
end

-- {place of the alternative that was taken or -1, place of the line that did not fit or -1, retry in ms, {used...}}
local function answer(ask)
  local failed, retry, used = -1, 0, {}
  for place, lines in ipairs(ask) do
    failed, used = -1, {}
    for at, line in ipairs(lines) do
      local have, fits, wait = tried(line)
      used[at] = have
      if not fits and failed < 0 then failed, retry = at - 1, wait end
    end
    if failed < 0 then
      for at, line in ipairs(lines) do grow(line, used[at]) end
      return {place - 1, -1, 0, used}
    end
    for at, line in ipairs(lines) do used[at] = without(line, used[at]) end
  end
  return {-1, failed, retry, used}
end

local verdicts = {}
for place, ask in ipairs(asks) do verdicts[place] = answer(ask) end
return {TAKEN, 0, verdicts, tonumber(ready)}
