"""The Lua that Redis and Valkey run, one atomic step each. The arithmetic is `policy/limit.Bucket`'s, line for line.

Time is the server's own, in microseconds, so that daemons with different clocks agree. A bucket is a string of four
doubles: level, stamp, passed, and `born`, when the key was made: a charge on a key that expired since (it was empty)
has all leaked out. Simultaneous requests are a sorted set of leases by the time they end, so that those of a daemon
that was killed run out by themselves. Keys live no longer than something is in them.
"""

from __future__ import annotations

__all__ = ["ADMIT", "RENEW", "SETTLE"]

BUCKET = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function load(key, rate)
  local raw = redis.call('GET', key)
  if not raw then return {level = 0, stamp = now, passed = 0, born = now} end
  local b = {}
  b.level, b.stamp, b.passed, b.born = struct.unpack('<dddd', raw)
  if now > b.stamp then
    local gone = math.min(b.level, (now - b.stamp) * rate)
    b.level, b.passed, b.stamp = b.level - gone, b.passed + gone, now
  end
  return b
end

local function save(key, b, rate)
  local raw = struct.pack('<dddd', b.level, b.stamp, b.passed, b.born)
  redis.call('SET', key, raw, 'PX', string.format('%.0f', math.ceil(b.level / rate / 1000) + 1000))
end

local function exact(number) return string.format('%.17g', number) end
"""

# KEYS: the buckets. ARGV: capacity, period (s), amount of each; then the name of the lease and its length (ms).
# Returns whether they fit, then level, place and born of each.
ADMIT = (
    BUCKET
    + """
local n = #KEYS
local lease, long = ARGV[3 * n + 1], tonumber(ARGV[3 * n + 2])
local found, fits = {}, true
for i, key in ipairs(KEYS) do
  local capacity, period, amount = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local b
  if period == 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    b = {level = redis.call('ZCARD', key), passed = 0, born = 0}
  else
    b = load(key, capacity / (period * 1000000))
  end
  fits = fits and b.level + amount - capacity <= capacity * 1e-9
  found[i] = b
end
local out = {fits and '1' or '0'}
for i, key in ipairs(KEYS) do
  local capacity, period, amount = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local b = found[i]
  local place = b.passed + b.level
  if fits then
    b.level = b.level + amount
    if period == 0 then
      redis.call('ZADD', key, string.format('%.0f', now + long * 1000), lease)
      redis.call('PEXPIRE', key, string.format('%.0f', long))
    else
      save(key, b, capacity / (period * 1000000))
    end
  end
  out[#out + 1] = exact(b.level)
  out[#out + 1] = exact(place)
  out[#out + 1] = exact(b.born)
end
return out
"""
)

# KEYS: the buckets. ARGV: capacity, period, charged, actual, place, born of each; then the lease, "1" with a refund.
SETTLE = (
    BUCKET
    + """
local n = #KEYS
local lease, refund = ARGV[6 * n + 1], ARGV[6 * n + 2] == '1'
for i, key in ipairs(KEYS) do
  local at = 6 * (i - 1)
  local capacity, period = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local charged, actual = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local place, born = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  if period == 0 then
    redis.call('ZREM', key, lease)
  elseif charged ~= actual then
    local rate = capacity / (period * 1000000)
    local b = load(key, rate)
    if actual > charged then
      b.level = b.level + actual - charged
      save(key, b, rate)
    elseif refund and b.born == born then
      local back = math.min(b.level, math.max(0, charged - math.max(actual, b.passed - place)))
      b.level, b.passed = b.level - back, b.passed + back
      save(key, b, rate)
    end
  end
end
return 1
"""
)

# KEYS: sets of leases. ARGV: the length (ms), then the lease of each. One that was given back meanwhile stays away.
RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local long = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', string.format('%.0f', now + long * 1000), ARGV[i + 1])
  redis.call('PEXPIRE', key, string.format('%.0f', long))
end
return 1
"""
