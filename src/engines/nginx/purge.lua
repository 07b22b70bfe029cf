-- Purging by tag, inside nginx. Its own cache knows keys only, and the tags of a page are known only once it has been made. So every
-- page has a floor, a number that is part of its cache key:
--
--   purge of a tag: counter + 1 is noted with the tag.
--   request:        a page whose tags have a purge above its floor gets a new floor, above all others: what was stored is never looked
--                   up again, even if a response is still on its way to be stored.
--   response:       its tags are noted with the page before it is stored. If its fetch began before a purge of one of its tags, or
--                   under a floor that is gone, it is passed on to the client and not stored.
--
-- A page that was not to be stored is not looked up for a while: requests for it would wait for each other, each for the answer of the
-- one before, and get their own in the end.
--
-- A request for a kept page must not do all that, so each worker knows for a second under which floors it has found pages. It reads one
-- number, which each purge raises before it notes its tags: if that has changed, nothing is known any more. While a worker notes tags,
-- nobody else learns anything, since what it has found before the note would look like new.
--
-- Floors come from the same counter and are never used twice, so a page that was evicted is merely fetched again. Tags share 65,536
-- slots by their hash: that memory never runs out, and a shared slot only purges too much. Workers share the memory. A page's entry is
-- changed under a lock of its own; a worker that does not get the lock does not store.

local pages, tags, locks = ngx.shared.rung_pages, ngx.shared.rung_tags, ngx.shared.rung_locks
local slots_max, slot_count, lock_seconds, lock_tries = 1000, 65536, 2, 10000
local unstored_seconds = 10
local known_most = 2000 -- pages, in each worker
local purging_seconds = 60 -- for a worker that is killed meanwhile
local M = {}

local function slot_of(tag)
  return tostring(ngx.crc32_long(tag) % slot_count)
end

local function read(page)
  local text = pages:get(page)
  if not text then return nil end
  local floor, slots = text:match("^(%d+):(.*)$")
  return tonumber(floor), slots
end

local function newest(slots)
  local most = tags:get("all") or 0
  for slot in slots:gmatch("%d+") do
    local purged = tags:get(slot)
    if purged and purged > most then most = purged end
  end
  return most
end

local attempts = 0
local function lock(page)
  attempts = attempts + 1
  local token = ngx.worker.pid() .. "." .. attempts
  for _ = 1, lock_tries do
    if locks:add(page, token, lock_seconds) then return token end
  end
  return nil
end

-- A worker that was suspended while it held the lock may have lost it.
local function set_and_unlock(page, token, text)
  if locks:get(page) ~= token then return false end
  local done = text == nil or pages:set(page, text)
  locks:delete(page)
  return done
end

-- Returns the floor of a page whose tags have no purge above it.
local function valid_floor(page)
  local floor, slots = read(page)
  if floor and newest(slots) <= floor then return floor end
end

local function is_unstored(page)
  return pages:get("unstored " .. page)
end

-- In any worker.
local function is_purging()
  for id = 0, ngx.worker.count() - 1 do
    if tags:get("purging " .. id) then return true end
  end
  return false
end

local known, known_count, known_purges, known_second = {}, 0, nil, nil

-- Returns the floor under which the page may be looked up, or nil if `enter` has to decide. For each request, so it costs next to nothing
-- while there is no purge. `leaves`: a function that says whether nothing may be answered here.
function M.known(leaves)
  local purges, second = tags:get("purges"), ngx.time()
  if purges ~= known_purges or second ~= known_second or known_count == known_most then
    known, known_count, known_purges, known_second = {}, 0, purges, second
  end
  local address = ngx.var.rung_address
  local floor = known[address]
  if floor then return floor end
  if address == "" or leaves() then return nil end
  local page, purging = ngx.md5(address), is_purging()
  floor = not is_unstored(page) and valid_floor(page)
  if not floor then return nil end
  floor = tostring(floor) -- once: nginx' variables are texts
  if not purging then known[address], known_count = floor, known_count + 1 end
  return floor
end

-- From now on no worker answers from what it knew before.
function M.doubt()
  tags:incr("purges", 1)
end

-- Returns the floor under which the page may be looked up, or nil if it must not be cached.
function M.enter(address)
  if address == "" then return nil end
  local page = ngx.md5(address)
  if is_unstored(page) then return nil end
  local floor = valid_floor(page)
  if floor then return floor end
  local token = lock(page)
  if not token then return nil end
  floor = valid_floor(page)
  if floor then
    set_and_unlock(page, token, nil)
    return floor
  end
  floor = tags:incr("counter", 1, 0)
  if not set_and_unlock(page, token, string.format("%d:", floor)) then return nil end
  return floor
end

-- A fetch begins. What the front has sent says which page it is.
function M.fetch()
  local ctx, var = ngx.ctx, ngx.var
  local address = var.http_x_forwarded_proto .. "://" .. var.http_host .. var.request_uri
  ctx.page, ctx.floor, ctx.began = ngx.md5(address), tonumber(var.http_x_rung_page), tags:get("counter") or 0
end

local function text_of(value)
  if type(value) == "table" then return table.concat(value, ",") end
  return value or ""
end

-- Notes the tags. Returns whether the response may be stored.
local function note(list)
  local page, floor, began = ngx.ctx.page, ngx.ctx.floor, ngx.ctx.began
  local seen, slots, count = {}, {}, 0
  local function take(slot)
    if seen[slot] then return end
    seen[slot] = true
    count = count + 1
    slots[count] = slot
  end
  for tag in list:gmatch("[^,%s]+") do take(slot_of(tag)) end
  if newest(table.concat(slots, ",")) > began then return false end
  local token = lock(page)
  if not token then return false end
  local now, known = read(page)
  if now ~= floor then
    set_and_unlock(page, token, nil)
    return false
  end
  for slot in known:gmatch("%d+") do take(slot) end
  if count > slots_max then
    set_and_unlock(page, token, nil)
    return false
  end
  return set_and_unlock(page, token, string.format("%d:%s", floor, table.concat(slots, ",")))
end

-- Returns seconds as text. Surrogate-Control comes first, then s-maxage, then what browsers are told.
local function lifetime(surrogate, control, expires)
  local seconds = surrogate:match("max%-age%s*=%s*(%d+)")
    or control:match("s%-maxage%s*=%s*\"?(%d+)")
    or control:match("max%-age%s*=%s*\"?(%d+)")
  if seconds then return string.format("%d", math.min(tonumber(seconds), 31536000)) end
  local at = expires ~= "" and ngx.parse_http_time(expires)
  return at and string.format("%d", math.max(0, at - ngx.time())) or "0"
end

local content_headers = {
  ["content-type"] = true, ["content-length"] = true, ["content-encoding"] = true, ["content-language"] = true,
  ["content-disposition"] = true, ["content-location"] = true, ["content-security-policy"] = true, ["permissions-policy"] = true,
  ["referrer-policy"] = true, ["strict-transport-security"] = true, ["x-content-type-options"] = true, ["x-frame-options"] = true,
  ["cross-origin-opener-policy"] = true, ["cross-origin-embedder-policy"] = true, ["cross-origin-resource-policy"] = true,
  ["etag"] = true, ["last-modified"] = true, ["cache-control"] = true, ["cdn-cache-control"] = true, ["expires"] = true,
  ["surrogate-control"] = true, ["surrogate-key"] = true, ["cache-tag"] = true, ["vary"] = true,
  ["link"] = true, ["date"] = true, ["server"] = true, ["connection"] = true, ["transfer-encoding"] = true,
}

-- All readers get the headers of a kept answer, so headers for its first reader (limits, trace, origin) are removed.
local function only_content(header, vary)
  local by_origin = vary:lower():find("origin", 1, true) or header["Access-Control-Allow-Origin"] == "*"
  for name in pairs(ngx.resp.get_headers(0)) do
    name = name:lower()
    if not content_headers[name] and not (by_origin and name:find("^access%-control%-")) then header[name] = nil end
  end
end

-- Headers have come from the app. The front is told X-Accel-Expires alone; the next cache, if there is one, is told the tags.
function M.arrived(shown)
  local header = ngx.header
  local list = text_of(header["Surrogate-Key"]) .. "," .. text_of(header["Cache-Tag"])
  local surrogate = text_of(header["Surrogate-Control"]):lower()
  local control = text_of(header["Cache-Control"]):lower()
  local vary = text_of(header["Edge-Vary"])
  if not shown then header["Surrogate-Key"], header["Cache-Tag"] = nil, nil end
  if not shown then header["Surrogate-Control"], header["CDN-Cache-Control"] = nil, nil end
  header["Edge-Vary"] = nil
  if not ngx.ctx.page then return end
  local for_clients = text_of(header["Vary"])
  if ngx.var.rung_compresses == "1" and not for_clients:lower():find("accept-encoding", 1, true) then
    for_clients = for_clients == "" and "Accept-Encoding" or for_clients .. ", Accept-Encoding"
  end
  if vary ~= "" then
    only_content(header, vary)
    header["Vary"] = vary ~= "none" and vary or nil
  end
  header["X-Rung-Vary"] = for_clients
  -- no-cache is for browsers if shared caches are told something of their own.
  local personal = header["Set-Cookie"] ~= nil
    or control:find("private", 1, true) or control:find("no-store", 1, true) or surrogate:find("no-store", 1, true)
    or surrogate == "" and control:find("no-cache", 1, true)
    or text_of(header["Vary"]):find("*", 1, true)
  local seconds = personal and "0" or lifetime(surrogate, control, text_of(header["Expires"]))
  -- A refusal, or what a client with cookies gets, says nothing about others: no client may switch the cache off for a page.
  local anonymous = not ngx.var.http_cookie and not ngx.var.http_authorization
  if seconds == "0" and anonymous and ngx.status >= 200 and ngx.status < 300 then pages:set("unstored " .. ngx.ctx.page, true, unstored_seconds) end
  header["X-Accel-Expires"] = seconds ~= "0" and note(list) and seconds or "0"
end

local function same(a, b)
  local x, y, different = ngx.sha1_bin(a), ngx.sha1_bin(b), 0
  for i = 1, #x do different = bit.bor(different, bit.bxor(x:byte(i), y:byte(i))) end
  return different == 0
end

local function answer(status, text)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print(text, "\n")
  return ngx.exit(ngx.OK)
end

-- Whether a request to the admin port has the secret. One that has not is answered here.
function M.admits(secret)
  local given = (ngx.var.http_authorization or ""):match("^Bearer (.+)$") or ""
  if same(given, secret) then return true end
  answer(401, '{"error":"the secret is missing or wrong"}')
  return false
end

-- POST, a tag on each line, or * for all.
function M.purge(secret)
  if not M.admits(secret) then return end
  if ngx.req.get_method() ~= "POST" then return answer(405, '{"error":"POST a tag on each line"}') end
  ngx.req.read_body()
  local body, list, count = ngx.req.get_body_data() or "", {}, 0
  for tag in body:gmatch("[^\r\n]+") do
    if tag:find("[,%s]") then return answer(400, '{"error":"a tag has no spaces and no commas"}') end
    count = count + 1
    list[count] = tag
  end
  if count == 0 then return answer(400, '{"error":"no tags"}') end
  local mine = "purging " .. ngx.worker.id()
  tags:set(mine, true, purging_seconds)
  M.doubt()
  local version = tags:incr("counter", 1, 0)
  for _, tag in ipairs(list) do
    if tag == "*" or not tags:safe_set(slot_of(tag), version) then tags:set("all", version) end
  end
  tags:delete(mine)
  return answer(200, string.format('{"purged":%d}', count))
end

-- Counted from the time of the start: a server that was restarted never brings along a number that it has brought before.
tags:add("purges", math.floor(ngx.now() * 1000))

-- Returns how many purges there have been. Each request carries the number, so that the app knows how far it must have read the log.
function M.purges()
  return tags:get("purges")
end

return M
