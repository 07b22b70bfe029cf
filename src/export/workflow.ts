import { RungError } from '../kernel/errors.ts'
import { type Files, lines, marked } from './files.ts'
import { nodeVersion } from './image.ts'

export interface Pipeline {
  /** The name of the app. */
  readonly name: string
  /** Its file, if it is not found by itself: `src/shop.ts`. */
  readonly file: string | undefined
  /** The file of its proof, which need not be there: `prove.ts`. */
  readonly proof: string
  /** From the folder of the app to the one of the other files. */
  readonly folder: string
  /** The processes of the app, in the order in which they are replaced. */
  readonly parts: readonly string[]
}

/** Of the registry of GitHub, which takes names in small letters only. */
const image = `ghcr.io/\${{ github.repository }}`

/** How long a new version is looked at before it stays. */
const watchSeconds = 120

/**
 * Returns a workflow of GitHub Actions that ships every commit of the main branch. Pure. It uses the actions of GitHub itself and programs
 * that its runners have.
 * @throws CONFIG_INVALID for a path that its shell would take for something else
 */
export function workflowFiles(target: 'compose' | 'kubernetes', pipeline: Pipeline): Files {
  for (const named of [pipeline.file ?? '.', pipeline.proof, pipeline.folder]) {
    if (/^[\w.@+/][\w.@+/-]*$/.test(named)) continue
    const message = `The shell of a pipeline cannot name ${JSON.stringify(named)}. Rename it, to letters, digits and . _ - + @ only.`
    throw new RungError('CONFIG_INVALID', message)
  }
  const app = pipeline.file === undefined ? '' : ` ${pipeline.file}`
  const rollOut = target === 'compose' ? composeRollOut(pipeline) : kubernetesRollOut(pipeline)
  return {
    '.github/workflows/ship.yaml': `\
${marked()}
name: ship
on: { push: { branches: [main] } }
concurrency: { group: ship } # one after the other, and none is ended half-way
permissions: { contents: read, packages: write }
env:
  IMAGE: ${image}
  TAG: \${{ github.sha }}
jobs:
  check:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v6
      - uses: actions/setup-node@v6
        with: { node-version: ${nodeVersion}, cache: npm }
      - run: npm ci
      - run: npm run check --if-present
      - run: npm test --if-present
      - run: npx rung migrate${app} --lint
      - name: prove # skipped without that file: pages that need a sign-in prove nothing. Write it: npx rung prove init
        if: hashFiles('${pipeline.proof}') != ''
        run: npx rung prove 1k${app} --minutes 1
  image:
    needs: check
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v6
      - run: docker login ghcr.io --username "$GITHUB_ACTOR" --password-stdin <<< "$TOKEN"
        env: { TOKEN: "\${{ secrets.GITHUB_TOKEN }}" }
      - run: docker build --tag "\${IMAGE,,}:$TAG" . && docker push "\${IMAGE,,}:$TAG"
  roll-out:
    needs: image
    runs-on: ubuntu-24.04
    environment: production
    ${lines(4, rollOut.trimEnd())}
`,
  }
}

function kubernetesRollOut({ name, folder, parts }: Pipeline): string {
  const kubectl = `kubectl --namespace ${name}`
  const all = parts.join(' ')
  return `\
env: { KUBECONFIG: /tmp/kubeconfig }
defaults: { run: { working-directory: ${folder} } }
steps:
  - uses: actions/checkout@v6
  - run: (umask 077 && cat > "$KUBECONFIG" <<< "$CONFIG")
    env: { CONFIG: "\${{ secrets.KUBECONFIG }}" } # of the environment "production"
  - run: kustomize edit set image "app=\${IMAGE,,}:$TAG"
  - name: migrate
    run: |
      ${kubectl} delete job migrate --ignore-not-found
      kubectl apply --kustomize . --selector part=migrate
      ${kubectl} wait --for=condition=complete --timeout=30m job/migrate
  - name: roll out
    id: rolled
    run: |
      kubectl apply --kustomize .
      for part in ${all}; do ${kubectl} rollout status --timeout=15m "deployment/$part"; done
  - name: watch
    run: |
      sleep ${watchSeconds}
      for part in ${all}; do
        ${kubectl} rollout status --timeout=1m "deployment/$part"
        restarts=$(${kubectl} get pods --selector "part=$part" --output 'jsonpath={.items[*].status.containerStatuses[*].restartCount}')
        [ -z "$(tr -d ' 0' <<< "$restarts")" ] || { echo "$part was restarted"; exit 1; }
      done
  - name: roll back
    if: failure() && steps.rolled.outcome != 'skipped'
    run: for part in ${all}; do ${kubectl} rollout undo "deployment/$part"; done
`
}

function composeRollOut({ name, folder, parts }: Pipeline): string {
  const replace = (tag: string) =>
    `ssh "$HOST" "cd ${name} && export IMAGE=\${IMAGE,,} TAG=${tag} && for part in ${parts.join(' ')}; do docker compose up --detach --no-deps --wait \\$part || exit 1; done && docker compose up --detach"`
  return `\
env: { HOST: "\${{ vars.HOST }}" } # user@server, a variable of the environment "production"
steps:
  - uses: actions/checkout@v6
  - run: |
      mkdir -p ~/.ssh && umask 077 && cat > ~/.ssh/id_ed25519 <<< "$KEY" && cat > ~/.ssh/known_hosts <<< "$HOSTS"
      rsync --archive --exclude .env ${folder}/ "$HOST:${name}/"
    env: { KEY: "\${{ secrets.SSH_KEY }}", HOSTS: "\${{ vars.KNOWN_HOSTS }}" }
  - name: migrate
    run: |
      ssh "$HOST" "docker login ghcr.io --username $GITHUB_ACTOR --password-stdin" <<< "$TOKEN"
      ssh "$HOST" "cd ${name} && export IMAGE=\${IMAGE,,} TAG=$TAG && docker compose pull --quiet && docker compose run --rm migrate"
    env: { TOKEN: "\${{ secrets.GITHUB_TOKEN }}" }
  - name: roll out
    id: rolled
    run: |
      echo "BEFORE=$(ssh "$HOST" "cat ${name}/running" || true)" >> "$GITHUB_ENV"
      ${replace('$TAG')}
  - name: watch
    run: |
      sleep ${watchSeconds}
      ${replace('$TAG')} # which waits until all are healthy
      ssh "$HOST" "echo $TAG > ${name}/running"
  - name: roll back
    if: failure() && steps.rolled.outcome != 'skipped' && env.BEFORE != ''
    run: ${replace('$BEFORE')}
`
}
