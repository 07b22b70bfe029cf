-- The certificate of new connections. A reload of nginx would end connections on which a client is just sending a request, so the
-- certificate and the key come through the server's own address, and every handshake looks for them. Until then those of the start count.

local ssl = require("ngx.ssl")
local state = ngx.shared.rung_tls
local known, chain, key -- the text that is in use in this worker, and what was read from it
local M = {}

local function read(pem)
  local certificates, why = ssl.parse_pem_cert(pem)
  if not certificates then return nil, why end
  local of_it, why_not = ssl.parse_pem_priv_key(pem)
  if not of_it then return nil, why_not end
  return certificates, of_it
end

function M.use()
  local pem = state:get("pem")
  if not pem then return end
  if pem ~= known then
    chain, key = read(pem)
    known = pem
  end
  assert(ssl.clear_certs())
  assert(ssl.set_cert(chain))
  assert(ssl.set_priv_key(key))
end

-- POST: the certificates and the key, as PEM.
function M.change()
  ngx.req.read_body()
  local pem = ngx.req.get_body_data() or ""
  local found, why = read(pem)
  if not found then
    ngx.status = 400
    return ngx.say(why)
  end
  local done, trouble = state:set("pem", pem)
  if not done then ngx.status = 500 end
  ngx.say(trouble or "ok")
end

return M
