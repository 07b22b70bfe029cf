-- KEYS: a hash for each quota, with a field for each slot that is not empty: '<count> <time of the last admission>'.
-- ARGV: max, length of the window and length of a slot for each quota, in ms.
-- Returns { admitted, used, ms until a further unit is free, slot } for each quota.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local verdicts = {}
for i = 1, #KEYS do
  local max, window, length = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  -- The clock of a server may be set back; counts never are.
  local at, slots, gone, used = now, {}, {}, 0
  local known = redis.call('HGETALL', KEYS[i])
  for n = 1, #known, 2 do
    local count, last = string.match(known[n + 1], '(%d+) (%S+)')
    slots[#slots + 1] = { field = known[n], count = tonumber(count), last = tonumber(last) }
    if slots[#slots].last > at then at = slots[#slots].last end
  end
  local live = {}
  for _, one in ipairs(slots) do
    if one.last <= at - window then
      gone[#gone + 1] = one.field
    else
      live[#live + 1] = one
      used = used + one.count
    end
  end
  table.sort(live, function(a, b) return a.last < b.last end)
  local slot = string.format('%.0f', math.floor(at / length))
  local admitted = used < max
  if admitted then
    used = used + 1
    local latest = live[#live]
    if not latest or latest.field ~= slot then
      latest = { field = slot, count = 0 }
      live[#live + 1] = latest
    end
    latest.count, latest.last = latest.count + 1, at
    if #gone > 0 then redis.call('HDEL', KEYS[i], unpack(gone)) end
    redis.call('HSET', KEYS[i], slot, string.format('%.0f %.3f', latest.count, at))
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', at + window - now + 1))
  end
  local leaving, nextMs = math.max(1, used - max + 1), 0
  for _, one in ipairs(live) do
    leaving = leaving - one.count
    if leaving <= 0 then
      nextMs = window - (now - one.last)
      break
    end
  end
  verdicts[i] = { admitted and 1 or 0, used, math.ceil(nextMs), tonumber(slot) }
end
return verdicts
