-- What nginx knows of the app's processes, and what it decides from that.
--
-- Health. One worker checks every process each half second. A process that does not answer within a second leaves the rotation until it
-- answers again. Nothing else takes it out: nginx' own count of failures includes connections that a client broke, so with it any
-- client could take a server away from all others. If no process answers, all of them are tried.
--
-- Balancing. Round robin over the processes that answer. A GET that one process leaves unanswered for first_try_seconds is sent to
-- another, within a budget of a tenth of all GETs: without the budget a slow database would double its own load. Any other method is
-- sent again only if nothing of it was sent before: nginx by itself would repeat a DELETE or a PUT that may have been done.
--
-- Terms. The answer to the health check says which routes take an Idempotency-Key and how the app words refusals. So the edge answers in
-- the app's own form while the app is away.
--
-- lua.ts replaces the names between @ signs.

local balancer = require("ngx.balancer")
local state = ngx.shared.rung_app
local every_seconds, answer_ms = 0.5, 1000
local connect_seconds, answer_seconds, first_try_seconds = 2, @answer_seconds@, 3
local budget_max, budget_share = 10, 0.1
local apps, secret, turn, budget = {}, "", 0, budget_max
local list -- the text from which `apps` was read
local M = {}

local function connect(socket, app)
  if app:sub(1, 5) == "unix:" then return socket:connect(app) end
  local host, port = app:match("^(.*):(%d+)$")
  return socket:connect(host, tonumber(port))
end

-- Returns whether the app answers at all, and its terms.
local function ask(app)
  local socket = ngx.socket.tcp()
  socket:settimeouts(answer_ms, answer_ms, answer_ms)
  local done = connect(socket, app)
  done = done and socket:send({
    "GET @state_path@ HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer ", secret, "\r\n\r\n",
  })
  local line = done and socket:receive("*l")
  local rest = line and line:find("^HTTP/1%.1 200 ") and socket:receive("*a")
  socket:close()
  return line ~= nil and line ~= false, rest and rest:match("\r\n\r\n(rung%-edge 1\n.*)$")
end

local function look(app)
  local answers, terms = ask(app)
  if answers then state:delete("down " .. app) else state:set("down " .. app, true) end
  if terms and terms ~= state:get("terms") then state:set("terms", terms) end
end

-- The processes may be others than at the start: `M.change` keeps them, one in each line.
local function present()
  local text = state:get("apps")
  if text and text ~= list then
    list, apps = text, {}
    for app in text:gmatch("[^\n]+") do apps[#apps + 1] = app end
  end
  return apps
end

local function look_at_all()
  local threads = {}
  for n, app in ipairs(present()) do threads[n] = ngx.thread.spawn(look, app) end
  for _, thread in ipairs(threads) do ngx.thread.wait(thread) end
end

function M.start(of_secret, of_apps)
  secret, apps = of_secret, of_apps
  if ngx.worker.id() ~= 0 then return end
  ngx.timer.at(0, look_at_all)
  ngx.timer.every(every_seconds, look_at_all)
end

-- POST replaces the processes, one address in each line. Every answer has a line for each of them: its address, and up or down.
function M.change()
  if ngx.req.get_method() == "POST" then
    ngx.req.read_body()
    local body = ngx.req.get_body_data() or ""
    if not body:find("%S") then return ngx.exit(400) end
    state:set("apps", body)
  end
  look_at_all() -- what was found half a second ago may no longer be so
  for _, app in ipairs(present()) do ngx.say(app, " ", state:get("down " .. app) and "down" or "up") end
end

-- Returns an app that answers and was not tried before, otherwise any other one, otherwise the same one again.
local function choose(last)
  local apps = present()
  local count, other = #apps, nil
  turn = turn % count + 1
  for n = 0, count - 1 do
    local app = apps[(turn + n - 1) % count + 1]
    if app ~= last then
      if not state:get("down " .. app) then return app, true end
      other = other or app
    end
  end
  return other or last or apps[turn], false
end

local function was_sent()
  for bytes in (ngx.var.upstream_bytes_sent or ""):gmatch("%d+") do
    if tonumber(bytes) > 0 then return true end
  end
  return false
end

local no_other = -3 -- NGX_BUSY: nginx gives up with 502

function M.balance()
  local ctx, method = ngx.ctx, ngx.req.get_method()
  local safe = method == "GET" or method == "HEAD"
  local app = choose(ctx.app)
  local wait = answer_seconds
  if ctx.app then
    if not safe and was_sent() then return ngx.exit(no_other) end
    budget = budget - 1
  elseif #present() > 1 then
    balancer.set_more_tries(1)
    if safe then
      if budget >= 1 and not (ngx.var.http_accept or ""):find("text/event-stream", 1, true) then wait = first_try_seconds end
      budget = math.min(budget_max, budget + budget_share)
    end
  end
  ctx.app = app
  balancer.set_timeouts(connect_seconds, answer_seconds, wait)
  if app:sub(1, 5) == "unix:" then
    assert(balancer.set_current_peer(app))
  else
    local host, port = app:match("^%[?(.-)%]?:(%d+)$")
    assert(balancer.set_current_peer(host, tonumber(port)))
  end
end

local function pattern_of(path)
  -- A parameter matches anything: the app itself decides in the end.
  local pattern = path:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*.*$", ".*"):gsub("[^/]*:[^/]*", "[^/]*")
  return "^" .. pattern .. "/?$"
end

local known, terms
local function read_terms()
  local text = state:get("terms")
  if terms and text == known then return terms end
  terms = { keyed = {}, refusals = {} }
  for line in (text or ""):gmatch("[^\n]+") do
    local method, path = line:match("^keyed (%S+) (%S+)$")
    if method then terms.keyed[#terms.keyed + 1] = { method = method, pattern = pattern_of(path) } end
    local name, type, body = line:match("^refusal (%S+) (%S+) (%S+)$")
    if name then terms.refusals[name] = { type = ngx.unescape_uri(type), body = ngx.unescape_uri(body) } end
  end
  known = text
  return terms
end

local refusals = @refusals@

-- Answers in the app's own form if it is known, otherwise with a problem (RFC 9457).
function M.refuse(name)
  local form = read_terms().refusals[name]
  local body = form and form.body
  if not form then
    local code, title, detail = unpack(refusals[name])
    body = string.format('{"type":"urn:rung:error:%s","title":"%s","status":%s,"code":"%s","detail":"%s","instance":"%s"}',
      code, title, name, code, detail, "@request_id@")
  end
  ngx.status = tonumber(name)
  ngx.header["Content-Type"] = form and form.type or "application/problem+json"
  ngx.header["Cache-Control"] = "no-store"
  ngx.header["Retry-After"] = name == "503" and "1" or nil
  if ngx.req.get_method() == "HEAD" then return ngx.exit(ngx.OK) end
  ngx.print((body:gsub("@request_id_pattern@", ngx.var.rung_request_id)))
  return ngx.exit(ngx.OK)
end

local function repeatable()
  local method, path = ngx.req.get_method(), ngx.var.uri
  if method == "GET" or method == "HEAD" then return true end
  if ngx.var.http_idempotency_key == nil then return false end
  for _, route in ipairs(read_terms().keyed) do
    if route.method == method and path:find(route.pattern) then return true end
  end
  return false
end

-- No process has answered. A write that was sent to one may have been done: its client must not be told to try again.
function M.down()
  return M.refuse(was_sent() and not repeatable() and "502" or "503")
end

return M
