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
-- Overload. A process that gets ten times what it can answer cannot even refuse the rest, so nginx does. Each worker limits how many
-- requests it has with a process, by the time that requests wait for it: the time until its answer begins, without what the process says
-- it worked on it. So routes that take long by themselves are not limited. A request that waited too long lowers the limit, to half at
-- most, and then only one that began after that lowers it again; each that did not wait raises it by one, while it is in use (as TCP does
-- with its window, RFC 5681), and if the check of health did not wait either, the limit is doubled before anything is refused: then many
-- requests are in work that take long, and nothing is overloaded. Each route is refused from its own share of the limit on. A request counts once its body is here: nginx
-- reads short bodies first. Longer ones pass through as they arrive, at the pace of their clients, so they are not counted.
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
local limit_least, limit_first, limit_most = 4, 100, 4000
local body_most = @body_most@ -- bytes
local share_least = @share_least@ -- no route has less of a limit
local apps, secret, turn, budget = {}, "", 0, budget_max
-- By app: the requests that it has not begun to answer, how many it may have, when that was lowered, and the last check that raised it.
local pending, limits, lowered, calm = {}, {}, {}, {}
local calls = {} -- by nginx' id of the request, which internal redirects keep, unlike ngx.ctx
local read_terms, share_of
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
  local began = ngx.now()
  local answers, terms = ask(app)
  if answers then state:delete("down " .. app) else state:set("down " .. app, true) end
  if terms and terms ~= state:get("terms") then state:set("terms", terms) end
  local most = answers and read_terms().wait_ms
  if most and (ngx.now() - began) * 1000 < most / 4 then state:incr("calm " .. app, 1, 0, every_seconds) end
end

local function report_refused()
  local refused = state:get("refused") or 0
  if refused == 0 then return end
  state:incr("refused", -refused)
  ngx.log(ngx.WARN, "the app is overloaded: ", refused, " requests were refused")
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
  ngx.timer.every(10, report_refused)
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

-- From now on each answer is the last one of its connection: other processes share the port, and get the next connections.
function M.leave()
  state:set("leaves", true)
  ngx.say("leaves")
end

function M.leaves()
  return state:get("leaves")
end

local function has_room(app, share)
  return (pending[app] or 0) < (limits[app] or limit_first) * share
end

-- Returns whether the app answers its checks at once, for each check once.
local function is_calm(app)
  local checks = state:get("calm " .. app)
  if not checks or checks == calm[app] then return false end
  calm[app] = checks
  return true
end

-- Returns an app that answers, has room and was not tried before, otherwise any other one, otherwise the same one again.
local function choose(last)
  local apps = present()
  local count, other, full = #apps, nil, nil
  turn = turn % count + 1
  for n = 0, count - 1 do
    local app = apps[(turn + n - 1) % count + 1]
    if app ~= last then
      if state:get("down " .. app) then other = other or app
      elseif has_room(app, 1) then return app
      else full = full or app end
    end
  end
  return full or other or last or apps[turn]
end

-- Returns the processes that answer, or all if none does.
local function answering()
  local up = {}
  for _, app in ipairs(present()) do
    if not state:get("down " .. app) then up[#up + 1] = app end
  end
  return up[1] and up or present()
end

-- The path as the app matches it: nginx' own one is decoded, so %2F.. would lead to another route.
local function raw_path()
  return ngx.var.request_uri:match("^[^?]*")
end

-- In HTTP/2 a body may come without its length.
local function has_long_body()
  local length = tonumber(ngx.var.http_content_length)
  if length then return length > body_most end
  return ngx.var.http_transfer_encoding ~= nil or ngx.var.server_protocol == "HTTP/2.0"
end

-- Refuses the request if each process that answers has as many as it may. Call it before the request goes to one.
function M.admit()
  if ngx.var.http_content_length and not has_long_body() then ngx.req.read_body() end
  if not read_terms().wait_ms then return end
  local share
  for _, app in ipairs(answering()) do
    if has_room(app, share_least) then return end
    share = share or share_of(ngx.req.get_method(), raw_path())
    if has_room(app, share) then return end
    if is_calm(app) then
      limits[app] = math.min(2 * (limits[app] or limit_first), limit_most)
      return
    end
  end
  state:incr("refused", 1, 0)
  return ngx.exit(503)
end

local function begin(app)
  local method = ngx.req.get_method()
  if method ~= "GET" and method ~= "HEAD" and has_long_body() then return end
  local count = (pending[app] or 0) + 1
  pending[app] = count
  calls[ngx.var.request_id] = { count = count, began = ngx.now(), app = app }
end

-- The process has begun to answer, or the request ended without an answer. A slow reader is none of the process's business.
function M.ended()
  local id = ngx.var.request_id
  local call = calls[id]
  if not call then return end
  calls[id] = nil
  local count, began, app = call.count, call.began, call.app
  pending[app] = pending[app] - 1
  local most = read_terms().wait_ms
  if not most then return end
  local ms = (ngx.now() - began) * 1000
  local took = tonumber(ngx.var.upstream_http_@took@)
  -- A request without an answer says nothing, since its client may have ended it, unless nobody gets one.
  if not took and not state:get("down " .. app) then return end
  local wait, limit = ms - (took or 0), limits[app] or limit_first
  if wait > most then
    if began < (lowered[app] or 0) then return end
    limit = math.min(limit, math.max(limit_least, limit / 2, count * most / wait))
    lowered[app] = ngx.now()
  elseif took and pending[app] >= limit * share_least / 2 then
    limit = limit + 1
  end
  limits[app] = math.min(limit, limit_most)
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
  M.ended() -- at another process
  begin(app)
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
read_terms = function()
  local text = state:get("terms")
  if terms and text == known then return terms end
  terms = { keyed = {}, refusals = {}, shares = {} }
  for line in (text or ""):gmatch("[^\n]+") do
    local method, path = line:match("^keyed (%S+) (%S+)$")
    if method then terms.keyed[#terms.keyed + 1] = { method = method, pattern = pattern_of(path) } end
    local share, of, at = line:match("^share (%S+) (%S+) (%S+)$")
    if share then terms.shares[#terms.shares + 1] = { share = tonumber(share), method = of, pattern = pattern_of(at) } end
    terms.wait_ms = terms.wait_ms or tonumber(line:match("^shedding (%S+)$"))
    local name, type, body = line:match("^refusal (%S+) (%S+) (%S+)$")
    if name then terms.refusals[name] = { type = ngx.unescape_uri(type), body = ngx.unescape_uri(body) } end
  end
  known = text
  return terms
end

share_of = function(method, path)
  for _, route in ipairs(read_terms().shares) do
    if route.method == method and path:find(route.pattern) then return route.share end
  end
  return 1
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
  ngx.header["Retry-After"] = name == "503" and math.random(3) or nil -- spread, so that clients do not all return at the same time
  if ngx.req.get_method() == "HEAD" then return ngx.exit(ngx.OK) end
  ngx.print((body:gsub("@request_id_pattern@", ngx.var.rung_request_id)))
  return ngx.exit(ngx.OK)
end

local function repeatable()
  local method, path = ngx.req.get_method(), raw_path()
  if method == "GET" or method == "HEAD" then return true end
  if ngx.var.http_idempotency_key == nil then return false end
  for _, route in ipairs(read_terms().keyed) do
    if route.method == method and path:find(route.pattern) then return true end
  end
  return false
end

-- The request was refused, or no process has answered. A write that was sent to one may have been done: its client must not be told to try again.
function M.down()
  return M.refuse(was_sent() and not repeatable() and "502" or "503")
end

return M
