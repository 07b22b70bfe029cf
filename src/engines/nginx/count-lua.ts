/**
 * Counting what the app is not asked for, inside nginx. An answer may say what it counts as (`Edge-Count`); the header is kept with it
 * and shown to no client. Every time such an answer is given, from the cache or not, the worker adds one to a number of its own:
 * an addition in a table, without a lock. Once a second that table becomes a *batch* in the memory that all workers share, and
 * the first worker sends the batches to the app.
 *
 * A batch has a number that no other has, and stays until the app has said that it has it. So one that arrived and whose
 * answer was lost is sent again under the same number, by which the app knows it. It is kept for less time than the app
 * remembers. Where there is no room for a batch, its counts wait with their worker, and names that are new go uncounted.
 *
 * What a worker has counted since its last batch goes with it when it is killed. One that stops sends it first.
 */
export const countLua = String.raw`
local connect = require("rung_app").connect
local batches, numbers = ngx.shared.rung_counts, ngx.shared.rung_tags
local every_seconds, keep_seconds, bytes_max, send_max = 1, 3000, 100000, 100
local number_bytes, timeout_ms = 12, 2000
local counts, bytes = {}, 0
local instance, secret, apps
local turn, sending, failing, stopped = 0, false, false, false
local M = {}

-- What this worker has counted becomes a batch.
local function close()
  if bytes == 0 then return end
  local lines = {}
  for name, n in pairs(counts) do lines[#lines + 1] = n .. " " .. name end
  local id = instance .. "." .. numbers:incr("batches", 1, 0)
  if batches:safe_set(id, table.concat(lines, "\n"), keep_seconds) then counts, bytes = {}, 0 end
end

-- An answer that counts as this is given.
function M.given(name)
  local n = counts[name]
  if not n then
    local more = #name + number_bytes
    if bytes + more > bytes_max then close() end
    if bytes + more > bytes_max then return end
    n, bytes = 0, bytes + more
  end
  counts[name] = n + 1
  if stopped then close() end -- no timer comes any more
end

-- Nothing when the app has it.
local function post(app, id, text)
  local socket = ngx.socket.tcp()
  socket:settimeout(timeout_ms)
  local done, problem = connect(socket, app)
  if not done then return problem end
  done, problem = socket:send({
    "POST /-/edge/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain\r\n",
    "Authorization: Bearer ", secret, "\r\nIdempotency-Key: ", id, "\r\nContent-Length: ", #text, "\r\n\r\n", text,
  })
  local line
  if done then line, problem = socket:receive("*l") end
  socket:close()
  if line and line:find("^HTTP/1%.1 204 ") then return nil end
  return problem or line
end

-- Each app is tried once, another each time.
local function send(id, text)
  local problem
  for _ = 1, #apps do
    turn = turn % #apps + 1
    problem = post(apps[turn], id, text)
    if not problem then return nil end
  end
  return problem
end

local function deliver()
  if sending then return end
  sending = true
  local problem
  for _, id in ipairs(batches:get_keys(send_max)) do
    local text = batches:get(id)
    problem = text and send(id, text)
    if problem then break end
    batches:delete(id)
  end
  sending = false
  -- 409: the app has it in hand, and is asked again.
  if problem and not failing and not problem:find(" 409 ", 1, true) then ngx.log(ngx.WARN, "counts are kept until the app takes them: ", problem) end
  failing = problem ~= nil
end

function M.start(of_instance, of_secret, of_apps)
  instance, secret, apps = of_instance, of_secret, of_apps
  ngx.timer.every(every_seconds, function(stopping)
    close()
    if stopping or ngx.worker.id() == 0 then deliver() end
    stopped = stopping
    if stopping then -- what had no room before has it now
      close()
      deliver()
    end
  end)
end

return M
`.trimStart()
