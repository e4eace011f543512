/**
 * Changes of what seeds draw, by name: the negative control, under which a run must fail or the checks are worth
 * nothing, and leanings, under which something that is rare with plain seeds happens all the time.
 */
import type { SimConfiguration } from './configuration.ts'

/** Syncs fulfil and make nothing durable, and the power goes. The damage itself must be noticed, not the lie. */
export function lyingFsync(configuration: SimConfiguration): SimConfiguration {
  return {
    ...configuration,
    disk: { ...configuration.disk, lyingSync: true },
    faults: { power_loss_all: 1 },
    finalPowerLoss: true,
    looksAtDisks: false,
  }
}

const segmentBytes = 12 * 1024

/**
 * The log is given up as soon as it is applied, whoever is away: each short absence ends with a copy from a peer, while
 * another leader may still have what is missing and send it.
 */
export function eagerTrim(configuration: SimConfiguration): SimConfiguration {
  return {
    ...configuration,
    brokenForEver: null,
    segmentBytes,
    bodyBytesMax: Math.min(configuration.bodyBytesMax, segmentBytes / 12),
    retention: { ...configuration.retention, logBytesMax: segmentBytes, followerLagBytesMax: 1 },
    limits: {
      ...configuration.limits,
      retentionRoundMs: 20,
      copyBytesMax: 512,
      catchUpBytesPerSecond: 256 * 1024,
    },
  }
}

/** The control of this name as an option of a run; nothing for none. */
export function changeOf(control: string | null): {
  readonly change?: (configuration: SimConfiguration) => SimConfiguration
} {
  if (control === null) return {}
  if (control === 'lying-fsync') return { change: lyingFsync }
  if (control === 'eager-trim') return { change: eagerTrim }
  throw new RangeError(`there is no control named ${control}`)
}
