if string.match(redis.call('GET', KEYS[1]) or '', ' (.+)$') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
