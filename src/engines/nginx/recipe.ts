import { acmePath, requestTimeoutDefaultMs, sessionCookieNames } from '../../kernel/http-facts.ts'
import { hstsHeader, type Listen, type Tls, tlsCiphers } from '../process/engine.ts'

/** How to run nginx as a page cache. Pure. */
export const nginxLeast = '1.20'
/** OpenResty is nginx with Lua built in. */
export const nginxPrograms = ['nginx', 'openresty'] as const
export const nginxVersionFlag = '-V'

/** Debian has Lua in a package of its own. */
export const nginxPackages = {
  debian: ['nginx', 'libnginx-mod-http-lua'],
  debianServices: ['nginx'],
  brew: ['openresty/brew/openresty'],
  dockerImage: 'openresty/openresty:1.27.1.2-5-bookworm',
} as const

export interface NginxSettings {
  /** Folder for configuration, cache and temporary files. */
  dir: string
  /** The address for clients. */
  listen: Listen
  /** Port for purges and health, on the loopback unless `adminHost` says otherwise, protected by the secret. */
  adminPort: number
  adminHost?: string
  /** Itself, or the environment variable that has it, for a configuration that others may read. */
  secret: string | { readonly variable: string }
  /** Networks of proxies in front of this server, whose `X-Forwarded-For` and `X-Forwarded-Proto` are passed on. */
  trustedProxies?: readonly string[]
  /** Folder of the Lua files, if it is not `dir`. */
  luaDir?: string
  /** The answer of `/-/health`, which tells this server from others. */
  instance: string
  /** `address:port`, `[address]:port` or `unix:/path` of each process of the app. No names: Lua does not resolve them. */
  upstreams: readonly string[]
  /** Modules to load, if Lua is not built in. */
  modules: readonly string[]
  workers: number
  /** Open files that the operating system allows one process, if known. */
  filesMax: number | undefined
  /** Requests with one of these cookies are neither answered from the cache nor stored in it. */
  sessionCookies: readonly string[]
  /** Whether a cache in front of this one gets the tags of pages. */
  tagsShown: boolean
  /** Time limit of a request in the app. */
  requestTimeoutMs: number
  /** Clients connect by https. */
  tls?: Tls | undefined
  /** Whether HTTP/2 has a directive of its own: since 1.25.1. */
  http2Directive: boolean
  /** How long a request waits for another one to fetch the same page, before it goes to the app itself. */
  coalesceMsMax: number
}

export const nginxDefaults = {
  requestTimeoutMs: requestTimeoutDefaultMs,
  sessionCookies: Object.values(sessionCookieNames),
  tagsShown: false,
  http2Directive: false,
  coalesceMsMax: 200,
} as const

/** Headers for the next cache, never for a browser. */
const forNextCache = ['Surrogate-Key', 'Cache-Tag', 'Surrogate-Control', 'CDN-Cache-Control']
/** `text/html` is always among them. */
const compressedTypes = [
  ...['text/plain', 'text/css', 'text/csv', 'text/javascript', 'text/xml', 'application/xml', 'image/svg+xml'],
  ...[
    'application/json',
    'application/problem+json',
    'application/manifest+json',
    'application/rss+xml',
    'application/atom+xml',
  ],
]

/** `Accept-Encoding` of today's browsers, by https and by http. */
const browserEncodings = ['gzip, deflate, br, zstd', 'gzip, deflate, br', 'gzip, deflate', 'gzip']

/** Returns how long nginx waits for the app, in ms. The app itself ends requests that take too long, so this is for an app that hangs. */
export function answerTimeoutMs({ requestTimeoutMs }: Pick<NginxSettings, 'requestTimeoutMs'>): number {
  return requestTimeoutMs + 30_000
}

/** Bodies of so many bytes are read before the app gets the request; longer ones pass through as they arrive. */
export const shortBody = 16_384
export const purgeModule = 'rung_purge'
export const tlsModule = 'rung_tls'
/** The certificate and the key of the start. */
export const pemFile = 'entry.pem'
export const appModule = 'rung_app'
export const configName = 'nginx.conf'

export function nginxArgs(configFile: string, dir: string): string[] {
  return ['-p', dir, '-e', 'stderr', '-c', configFile]
}

/** Parses the output of `nginx -V`. */
export function nginxVersion(text: string) {
  const match = /version: (nginx|openresty)\/(\d+(?:\.\d+)+)/.exec(text)
  if (!match) return undefined
  return {
    product: match[1] === 'openresty' ? ('OpenResty' as const) : ('nginx' as const),
    version: match[2]!,
    hasLua: match[1] === 'openresty' || /lua-nginx-module/.test(text),
    modulesPath: /--modules-path=(\S+)/.exec(text)?.[1],
  }
}

/**
 * Returns the configuration of two servers in one nginx. The *front* has the cache and fetches missing pages from the *gate*, which fetches
 * them from the app. The gate sees when a fetch begins and when its headers arrive, which Lua cannot see in the front, and decides
 * whether the answer may be stored (`purge.lua`). Requests that cannot be cached go to the app directly.
 *
 * - When nginx stops, the gate closes first. Requests that the front has accepted go to the app directly, and are not stored.
 * - Stale pages are served while one request fetches a new one and while the app fails; purged pages never are.
 * - A client's headers cannot change a page unless they are in its key. `X-Forwarded-*` are set here.
 * - `app.lua` chooses the process and refuses requests. nginx' own count of failures is off (`max_fails=0`), since it counts connections
 *   that a client broke.
 * - The app hides routes for operators (`/metrics`) from requests through nginx.
 * - Header lines may have 16 KiB, as in Rung's own server.
 * - Kept answers are stored compressed for browsers, and uncompressed for others.
 * - A certificate is replaced without a reload (`tls.lua`). Sessions of TLS are resumed from memory: nginx would use the key of tickets
 *   as long as it runs.
 */
export function nginxConfig(settings: NginxSettings): string {
  const { dir, listen, adminPort, adminHost = '127.0.0.1', instance, luaDir = dir, trustedProxies = [], tls } = settings
  const host = listen.host.includes(':') ? `[${word(listen.host)}]` : word(listen.host)
  const hsts = tls && hstsHeader(tls)
  const hstsLine = hsts === undefined ? '' : `      add_header Strict-Transport-Security "${hsts}" always;\n`
  const gate = `${dir}/gate.sock`
  const apps = (role = '') =>
    settings.upstreams.map((address) => `    server ${upstream(address)} max_fails=0${role};`).join('\n')
  const addresses = settings.upstreams.map((address) => `"${address}"`).join(', ')
  const connections = 11_024 // 10,000 clients, and connections to the app and the gate
  const files = settings.filesMax === undefined ? connections * 2 : Math.min(settings.filesMax, connections * 2)
  return `${settings.modules.map((file) => `load_module ${quote(file)};\n`).join('')}\
worker_processes ${settings.workers};
worker_rlimit_nofile ${files};
worker_shutdown_timeout ${settings.requestTimeoutMs}ms;
daemon off;
pid ${quote(`${dir}/nginx.pid`)};
error_log stderr warn;
${typeof settings.secret === 'string' ? '' : `env ${word(settings.secret.variable)};\n`}\

events {
  worker_connections ${Math.min(connections, files)};
  multi_accept on; # connections that wait to be accepted at a stop are reset, so none may wait
}

http {
  lua_package_path ${quote(`${luaDir}/?.lua;;`)};
  lua_shared_dict rung_pages 64m;
  lua_shared_dict rung_tags 16m;
  lua_shared_dict rung_locks 2m;
  lua_shared_dict rung_app 1m;
${tls ? '  lua_shared_dict rung_tls 1m;\n' : ''}\
  init_by_lua_block { require("${purgeModule}") require("${appModule}") }
  init_worker_by_lua_block { require("${appModule}").start(${secretIn(settings)}, { ${addresses} }) }

  access_log off;
  server_tokens off;
  default_type application/octet-stream;
  tcp_nodelay on;
  open_file_cache max=2000 inactive=60s; # opening a stored page costs as much as sending it
  open_file_cache_valid 60s;
  map_hash_bucket_size 256; # a socket's path is one of the values
  client_body_temp_path ${quote(`${dir}/tmp/body`)};
  proxy_temp_path ${quote(`${dir}/tmp/proxy`)};
  fastcgi_temp_path ${quote(`${dir}/tmp/fastcgi`)};
  uwsgi_temp_path ${quote(`${dir}/tmp/uwsgi`)};
  scgi_temp_path ${quote(`${dir}/tmp/scgi`)};

  client_header_timeout 15s;
  client_body_timeout 30s;
  send_timeout 30s;
  keepalive_timeout 65s;
  keepalive_requests 10000;
  reset_timedout_connection on;
  large_client_header_buffers 4 16k;
  client_max_body_size 0;
  client_body_buffer_size ${shortBody}; # for each client that sends one: a longer one would cost memory

  gzip on;
  gzip_min_length 1024;
  gzip_comp_level 4;
  gzip_types ${compressedTypes.join(' ')};
  gzip_proxied any;

  proxy_cache_path ${quote(`${dir}/cache`)} levels=1:2 keys_zone=rung:32m max_size=1024m inactive=3600s use_temp_path=off;
  proxy_http_version 1.1;
  proxy_connect_timeout 2s;
  proxy_read_timeout ${answerTimeoutMs(settings)}ms;
  proxy_send_timeout ${answerTimeoutMs(settings)}ms;
  proxy_request_buffering off;
  proxy_buffer_size 32k;
  proxy_buffers 8 32k;
  proxy_busy_buffers_size 64k;
  proxy_next_upstream error timeout;
  proxy_next_upstream_tries 2;
  proxy_next_upstream_timeout 10s;

  upstream rung_app {
${apps()}
    balancer_by_lua_block { require("${appModule}").balance() }
    keepalive 128;
  }
  upstream rung_gate {
    server ${quote(`unix:${gate}`)} max_fails=0;
${apps(' backup')}
    keepalive 128;
  }

${forwardedBy(trustedProxies)}\
  map $http_x_request_id $rung_request_id {
    default $request_id;
    "~^[A-Za-z0-9._-]{1,128}$" $http_x_request_id;
  }
  # Random bytes are a tenth of what a kept page costs. Its request is in no log and no trace, so that its id need only be its own.
  map $http_x_request_id $rung_page_request_id {
    default $rung_request_id;
    "" "$msec-$connection-$connection_requests";
  }
  map $http_upgrade $rung_connection {
    default upgrade;
    "" "";
  }
  map $http_cookie $rung_session {
    default 0;
    "" 0;
    "~(^|;\\s*)(${settings.sessionCookies.map(cookieName).join('|') || '(?!)'})=" 1;
  }
  # The address of a page that may be kept. A request with a body is none for it: others would wait for its body.
  map "$rung_session:$request_method:$http_authorization$http_upgrade$http_content_length$http_transfer_encoding" $rung_address {
    default "";
    "0:GET:" "$rung_scheme://$http_host$request_uri";
    "0:HEAD:" "$rung_scheme://$http_host$request_uri";
  }
  # What browsers send. For them a page is compressed once and kept so, beside the other one; for others that take gzip on each hit.
  map $http_accept_encoding $rung_coding {
    default "";
${browserEncodings.map((text) => `    "${text}" gzip;\n`).join('')}\
  }
  map $upstream_cache_status $rung_cache_word {
    default BYPASS;
    HIT HIT;
    REVALIDATED HIT;
    MISS MISS;
    EXPIRED MISS;
    STALE STALE;
    UPDATING STALE;
  }

  server {
    listen ${host}:${listen.port}${tls ? ` ssl${settings.http2Directive ? '' : ' http2'}` : ''} backlog=4096;
${tls ? tlsLines(settings) : ''}\
    error_page 400 /-/refused/400;
    error_page 405 /-/refused/405; # TRACE and CONNECT
    error_page 501 =400 /-/refused/400; # an unknown transfer encoding
    error_page 414 /-/refused/414;
    error_page 494 =431 /-/refused/431;
    error_page 404 /-/refused/404; # a client's request for one of the internal locations above
    location /-/refused/ {
      internal; # a balancer that has no server sends the request here, too
      log_by_lua_block { require("${appModule}").ended() }
      content_by_lua_block { require("${appModule}").refuse(ngx.var.uri:match("%d+$") or "404") }
      add_header X-Cache BYPASS always;
      add_header X-Request-Id $rung_request_id always;
${hstsLine}    }
    # Pages that are known to be kept, with as little as possible on their way: no regular expression, no random number, one call of Lua.
    # The app has no request of theirs: one that an answer of the app redirects to here had no address, and has none now.
    location / {
      set $rung_floor "";
      rewrite_by_lua_block {
        local floor = require("${purgeModule}").known(require("${appModule}").leaves)
        if not floor then return ngx.exec("@page") end
        ngx.var.rung_floor = floor
      }
      proxy_pass http://rung_gate;
      proxy_no_cache $rung_ungated;
      proxy_set_header X-Rung-Purges ${word(settings.instance)}.$request_id; # the gate has the number; without the gate it is another text each time
${pageLines(hstsLine, settings, '$rung_page_request_id')}\
    }
    # Everything else.
    location @page {
${otherLines(settings)}\
${pageLines(hstsLine, settings)}\
    }
${
  settings.listen.socketFd === undefined
    ? ''
    : `\
    # While it leaves the port to others, the answer is the last one of its connection. The settings of the location decide that.
    location @last {
      keepalive_timeout 0;
${otherLines(settings, true)}\
${pageLines(hstsLine, settings)}\
    }
`
}\
    location @down {
      log_by_lua_block { require("${appModule}").ended() }
      content_by_lua_block { require("${appModule}").down() }
      add_header X-Cache MISS always;
      add_header X-Request-Id $rung_request_id always;
${hstsLine}    }
  }
${tls?.plainPort === undefined ? '' : plainServer(tls, `${host}:${tls.plainPort}`, listen.port)}\
  map $upstream_http_content_type $rung_compresses {
    default 0;
    "~*^(?:text/|image/svg|application/(?:[a-z-]+[+])?(?:json|xml))" 1;
  }
  # A single Vary header, which includes Accept-Encoding for types that are compressed here. That of a kept page is kept with it.
  map $upstream_http_x_rung_vary $rung_vary {
    default $upstream_http_x_rung_vary;
    "" $rung_own_vary;
  }
  map "$rung_compresses:$upstream_http_vary" $rung_own_vary {
    default $upstream_http_vary;
    "1:" "Accept-Encoding";
    "~*^1:(?!.*accept-encoding)" "$upstream_http_vary, Accept-Encoding";
  }
  # The app compresses assets, with Brotli too.
  map $uri $rung_encodings {
    default "";
    "~^/-/assets/" $http_accept_encoding;
  }
  # The gate compresses what may be kept.
  map $rung_floor $rung_gate_coding {
    default $rung_coding;
    "" "";
  }
  map $rung_encodings $rung_gate_encodings {
    default $rung_encodings;
    "" $rung_gate_coding;
  }
  map $rung_floor $rung_skip {
    default 0;
    "" 1;
  }
  map $rung_floor $rung_next {
    default rung_gate;
    "" rung_app;
  }
  map $upstream_addr $rung_ungated {
    volatile;
    default 1;
    "~/gate\\.sock$" 0;
  }

  server {
    listen ${quote(`unix:${gate}`)} backlog=4096;
    gzip_comp_level 6; # once for all hits
    log_by_lua_block { require("${appModule}").ended() }
    location / {
      set $rung_purges "";
      rewrite_by_lua_block {
        require("${appModule}").admit()
        local purge = require("${purgeModule}")
        purge.fetch()
        ngx.var.rung_purges = purge.purges()
      }
      header_filter_by_lua_block {
        require("${appModule}").ended()
        require("${purgeModule}").arrived(${settings.tagsShown})
      }
      proxy_pass http://rung_app;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_set_header Accept-Encoding $rung_encodings;
      proxy_set_header X-Rung-Page "";
      proxy_set_header X-Rung-Purges ${word(settings.instance)}.$rung_purges;
      proxy_pass_header X-Accel-Buffering;
      proxy_pass_header Server;
      error_page 502 503 504 = @down;
    }
    location @down {
      content_by_lua_block { require("${appModule}").down() }
    }
    location /-/refused/ {
      internal; # a balancer that has no server sends the request here
      content_by_lua_block { require("${appModule}").refuse(ngx.var.uri:match("%d+$") or "404") }
    }
  }

  server {
    listen ${word(adminHost)}:${adminPort};
    client_max_body_size 1m;
    client_body_buffer_size 1m;
    location = /-/health { return 200 "${word(instance)}\\n"; }
    location = /-/purge {
      content_by_lua_block { require("${purgeModule}").purge(${secretIn(settings)}) }
    }
    location = /-/apps {
      content_by_lua_block {
        if require("${purgeModule}").admits(${secretIn(settings)}) then require("${appModule}").change() end
      }
    }
${
  listen.socketFd === undefined
    ? ''
    : `\
    location = /-/leave {
      content_by_lua_block {
        if require("${purgeModule}").admits(${secretIn(settings)}) then
          require("${appModule}").leave()
          require("${purgeModule}").doubt()
        end
      }
    }
`
}\
${
  tls
    ? `\
    location = /-/certificate {
      content_by_lua_block {
        if require("${purgeModule}").admits(${secretIn(settings)}) then require("${tlsModule}").change() end
      }
    }
`
    : ''
}\
    location / { return 404; }
  }
}
`
}

/** For a request that is not answered with a page that is known to be kept: it goes to the gate if its answer may be kept, or to the app. */
function otherLines(settings: NginxSettings, isLast = false): string {
  const mayLeave = settings.listen.socketFd !== undefined
  const leaveLine = `        if require("${appModule}").leaves() then return ngx.exec("@last") end\n`
  return `\
      set $rung_purges "";
      rewrite_by_lua_block {
${mayLeave && !isLast ? leaveLine : ''}\
        local purge, var = require("${purgeModule}"), ngx.var
        local floor = purge.enter(var.rung_address)
        if floor then
          var.rung_floor = floor
          return
        end
        var.rung_purges = purge.purges()
        require("${appModule}").admit() -- otherwise the gate does
      }
      header_filter_by_lua_block { require("${appModule}").ended() }
      log_by_lua_block { require("${appModule}").ended() }
      proxy_pass http://$rung_next;
      proxy_cache_bypass $rung_skip;
      proxy_no_cache $rung_skip $rung_ungated;
      proxy_set_header X-Rung-Purges ${word(settings.instance)}.$rung_purges;
`
}

function pageLines(hstsLine: string, settings: NginxSettings, requestId = '$rung_request_id'): string {
  return `\
      proxy_cache rung;
      proxy_cache_key "$rung_floor$rung_coding $rung_address";
      proxy_cache_methods GET HEAD;
      proxy_ignore_headers Cache-Control Expires;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
      proxy_cache_background_update on;
      proxy_cache_revalidate on;
      proxy_cache_lock on;
      proxy_cache_lock_timeout ${settings.coalesceMsMax}ms;
      proxy_cache_lock_age 5s;
      proxy_set_header Host $http_host;
      proxy_set_header Connection $rung_connection;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $rung_scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Forwarded "";
      proxy_set_header X-Request-Id ${requestId};
      proxy_set_header Accept-Encoding $rung_gate_encodings;
      proxy_set_header X-Rung-Page $rung_floor;
${settings.tagsShown ? '' : forNextCache.map((name) => `      proxy_hide_header ${name};\n`).join('')}\
      proxy_hide_header Edge-Vary;
      proxy_hide_header X-Rung-Vary;
      proxy_hide_header X-Rung-Took;
      proxy_hide_header Vary;
      proxy_hide_header X-Cache;
      proxy_hide_header X-Request-Id;
      proxy_pass_header Server;
      add_header Vary $rung_vary always;
      add_header X-Cache $rung_cache_word always;
      add_header X-Request-Id ${requestId} always;
${hstsLine}      error_page 502 503 504 = @down;
`
}

/** Finds the address for purges in a configuration. */
export function adminIn(config: string): { url: string; secret: string } {
  const [, address] = /^ {4}listen (127\.0\.0\.1:\d+);$/m.exec(config) ?? []
  const [, secret] = /\.purge\("([^"]+)"\)/.exec(config) ?? []
  if (!address || !secret) throw new TypeError("This is not a configuration of Rung's page cache")
  return { url: `http://${address}`, secret }
}

function tlsLines({ dir, http2Directive }: NginxSettings): string {
  return `\
${http2Directive ? '    http2 on;\n' : ''}\
    ssl_certificate ${quote(`${dir}/${pemFile}`)};
    ssl_certificate_key ${quote(`${dir}/${pemFile}`)};
    ssl_certificate_by_lua_block { require("${tlsModule}").use() }
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ${tlsCiphers};
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:rung_tls_sessions:10m;
    ssl_session_timeout 1d;
    ssl_session_tickets off;
    error_page 497 =400 /-/refused/400; # plain http on this port
`
}

/** Clients of plain http are led to https, with their method and body. */
function plainServer({ acme }: Tls, listen: string, port: number): string {
  const away = `return 308 https://$host${port === 443 ? '' : `:${port}`}$request_uri;`
  // The app gets the path as it was sent, so it is looked at as such: /a/../.well-known/… may be a page of the app.
  const challenges = `\
    location ^~ ${acmePath} {
      if ($request_uri !~ "^${acmePath.replaceAll('.', '\\.')}") { ${away} }
      log_by_lua_block { require("${appModule}").ended() }
      proxy_pass http://rung_app;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Forwarded "";
      proxy_set_header X-Rung-Page "";
      proxy_set_header X-Rung-Purges "";
    }
`
  return `
  server {
    listen ${listen} backlog=4096;
${acme ? challenges : ''}\
    location / { ${away} }
  }
`
}

/** An expression of Lua. */
function secretIn({ secret }: Pick<NginxSettings, 'secret'>): string {
  return typeof secret === 'string' ? `"${word(secret)}"` : `os.getenv("${word(secret.variable)}")`
}

/** The address of the client and its scheme, which a trusted proxy in front of this server knows better. */
function forwardedBy(proxies: readonly string[]): string {
  const networks = [...new Set(proxies)] // nginx warns of one that is named twice
  if (networks.length === 0) return '  map "" $rung_scheme { default $scheme; }\n'
  return `\
${networks.map((one) => `  set_real_ip_from ${word(one)};\n`).join('')}\
  real_ip_header X-Forwarded-For;
  real_ip_recursive on;
  geo $realip_remote_addr $rung_trusted {
    default 0;
${networks.map((one) => `    ${word(one)} 1;\n`).join('')}\
  }
  map "$rung_trusted:$http_x_forwarded_proto" $rung_scheme {
    default $scheme;
    "1:https" https;
  }
`
}

/** Quotes a value, which must not end its directive. */
function quote(text: string): string {
  if (/[\n\r$"\\]/.test(text)) throw new TypeError(`nginx's configuration cannot contain ${JSON.stringify(text)}`)
  return `"${text}"`
}

function word(text: string): string {
  if (!/^[\w.:/@-]+$/.test(text)) throw new TypeError(`nginx's configuration cannot contain ${JSON.stringify(text)}`)
  return text
}

function upstream(address: string): string {
  if (/^\[[\da-f:]+\]:\d+$/i.test(address)) return address
  return address.startsWith('unix:/') ? quote(address) : word(address)
}

function cookieName(text: string): string {
  if (!/^[\w-]+$/.test(text)) throw new TypeError(`${JSON.stringify(text)} is not a cookie's name`)
  return text
}
