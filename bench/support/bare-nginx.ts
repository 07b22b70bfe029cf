import { chown, mkdir, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { nginxArgs } from '../../src/engines/nginx/recipe.ts'
import { installedNginx } from '../../src/engines/nginx/server.ts'
import { findLauncher } from '../../src/engines/process/launcher.ts'
import { type ServerProcess, startServer } from '../../src/engines/process/server-process.ts'
import { freePort } from './processes.ts'

export interface BareNginx extends ServerProcess {
  url: string
}

/**
 * nginx as a page cache and nothing else: no purges, no ids, no regard for who asks. It keeps what the origin answers, whatever its headers
 * say, and its settings that decide what a kept page costs are the best found (`open_file_cache` saves a third, `sendfile` would add a third).
 */
export async function startBareNginx(dir: string, origin: string): Promise<BareNginx> {
  const installed = installedNginx()
  if (!installed) throw new Error('nginx is not installed: rung engines install nginx')
  const launcher = findLauncher({ program: installed.path, versionFlag: '-V', name: 'nginx', advice: 'leave this out' })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const configFile = path.join(dir, 'nginx.conf')
  const server = await startServer({
    name: 'nginx',
    dir,
    program: installed.path,
    args: nginxArgs(configFile, dir),
    launcher,
    address: url,
    async prepare() {
      const folders = ['tmp', 'cache'].map((name) => path.join(dir, name))
      for (const folder of folders) await mkdir(folder, { recursive: true })
      await writeFile(configFile, configOf(dir, port, origin))
      for (const file of [...folders, configFile])
        if (launcher.uid !== undefined) await chown(file, launcher.uid, launcher.gid!)
    },
    isReady: () =>
      fetch(`${url}/`).then(
        ({ ok }) => ok,
        () => false,
      ),
  })
  return { ...server, url }
}

function configOf(dir: string, port: number, origin: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${dir}/tmp/${name};\n`)
    .join('')
  return `\
worker_processes ${availableParallelism()};
daemon off;
pid ${dir}/nginx.pid;
error_log stderr warn;
events { multi_accept on; }
http {
${temporary}\
  access_log off;
  keepalive_requests 10000;
  tcp_nodelay on;
  open_file_cache max=2000 inactive=60s;
  open_file_cache_valid 60s;
  gzip on;
  gzip_min_length 1024;
  gzip_types application/json;
  proxy_cache_path ${dir}/cache levels=1:2 keys_zone=bare:32m max_size=1024m inactive=3600s use_temp_path=off;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass ${origin};
      proxy_cache bare;
      proxy_cache_valid 200 1h;
      proxy_ignore_headers Cache-Control Expires Vary;
    }
  }
}
`
}
