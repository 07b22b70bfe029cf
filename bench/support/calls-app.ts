import { defineApp, defineCalls, defineModule } from 'rung'
import { Type } from 'typebox'

/** Two routes that differ in one call, whose handler does nothing. */
const echoCalls = defineCalls('echo', {
  same: { input: Type.Object({ n: Type.Integer() }), output: Type.Object({ n: Type.Integer() }), read: true },
})

const echo = defineModule({
  name: 'echo',
  owner: 'bench',
  exposes: echoCalls,
  calls: () => ({ same: ({ n }) => ({ n }) }),
})

const asking = defineModule({
  name: 'asking',
  owner: 'bench',
  uses: { echo: echoCalls },
  routes(http, { calls }) {
    http.get('/alone', () => ({ n: 1 }))
    http.get('/calling', () => calls.echo.same({ n: 1 }))
  },
})

export default defineApp({ name: 'calls-bench', modules: [echo, asking] })
