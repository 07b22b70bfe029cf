-- KEYS: a hash for each receipt. ARGV: the slot of each.
for i = 1, #KEYS do
  local count, last = string.match(redis.call('HGET', KEYS[i], ARGV[i]) or '', '(%d+) (%S+)')
  if count and tonumber(count) > 0 then
    redis.call('HSET', KEYS[i], ARGV[i], string.format('%.0f %s', tonumber(count) - 1, last))
  end
end
return 1
