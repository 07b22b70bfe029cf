-- Put before scripts that are valid in one epoch only. The caller need not know the run id.
local about = redis.call('GET', KEYS[1])
local run, epoch = string.match(about or '', '^(%S+) (%S+)')
if epoch ~= ARGV[1] then return false end
