/** The engines that some rung needs, in the order in which one meets them. */
export const engineNames = ['postgres', 'redis', 'nginx'] as const
export type EngineName = (typeof engineNames)[number]

/** The first rung that has it; those above have it too. */
export const engineFrom: Readonly<Record<EngineName, string>> = { postgres: '1k', redis: '10k', nginx: '10k' }
