// The shapes of the service's answers, for editors and type checkers. Nothing here runs.

/** @typedef {{id: string, name: string}} Named */

/**
 * @typedef {object} Crop
 * @property {number} id
 * @property {string} gallery
 * @property {string | null} path
 * @property {string | null} source
 * @property {string | null} camera
 * @property {string | null} time ISO 8601, UTC.
 * @property {number | null} frame
 * @property {string | null} track
 * @property {string | null} told the person that the file name names.
 * @property {Named | null} person whom a person confirmed.
 * @property {string} thumbnail address.
 * @property {string} image address.
 */

/** @typedef {"same" | "different" | "unsure"} Verdict */
/** @typedef {{kind: string, rate: number, score: number, dataset?: string}} Mark a score with its measured rate. */

/**
 * @typedef {object} Block
 * @property {string} name
 * @property {string} region the part of the body.
 * @property {number} share of the score.
 * @property {number | null} usual mean distance from the query's block in crops of other people.
 * @property {number | null} spread standard deviation of these distances.
 * @property {number | null} contrast (usual - distance of this match) / spread.
 */

/**
 * @typedef {Crop & {rank: number, score: number, distance: number | null, passes: Mark | null,
 *     verdict: Verdict | null, blocks: Block[]}} Match
 */

/**
 * @typedef {object} Answer
 * @property {{id: string | null, crop: number | null, images: number, thumbnail: string | null}} query
 * @property {Match[]} matches
 * @property {{block: string, region: string, difference: number, clear: boolean} | null} separation the block that
 *     speaks most for rank 1 and against rank 2.
 * @property {number} others other people's crops that the contrasts were measured on.
 * @property {Mark | null} threshold
 * @property {Mark[]} marks
 * @property {number} searched
 * @property {string} mode
 * @property {Record<string, number>} milliseconds
 * @property {string[]} warnings
 */

/**
 * @typedef {object} Person
 * @property {string} id
 * @property {"confirmed" | "suggested"} kind
 * @property {string | null} name
 * @property {number} crops
 * @property {string[]} cameras
 * @property {string | null} first
 * @property {string | null} last
 * @property {Crop[]} cover
 * @property {number | null} confidence
 * @property {{person: Named, score: number} | null} [resembles] a confirmed person whom a suggested group may show.
 */

/** @typedef {{id: number, kind: "merge" | "split", name: string | null, crops: number, time: string}} Merge */
/** @typedef {Person & {timeline: {camera: string | null, crops: Crop[]}[], merges: Merge[]}} PersonDetail */

/**
 * @typedef {object} Gallery
 * @property {string} name
 * @property {number} rows
 * @property {number} people
 * @property {{name: string | null, crops: number}[]} cameras
 * @property {Record<string, number>} sources crops by source.
 * @property {string | null} first
 * @property {string | null} last
 * @property {string} fingerprint
 * @property {string} model
 * @property {boolean} writable
 * @property {boolean} following
 */

/**
 * @typedef {object} EngineFacts
 * @property {string} model
 * @property {string[]} galleries
 * @property {string} fingerprint
 * @property {string} family
 * @property {string} backbone
 * @property {string} precision
 * @property {number} height_px
 * @property {number} width_px
 * @property {number} dimension
 * @property {string} state `open`, `opening` or `failed`.
 * @property {string | null} runtime
 * @property {string | null} arithmetic
 * @property {number | null} max_batch
 * @property {number} queue
 * @property {number} queue_limit
 * @property {{verdict: string, passed: boolean, engine: string, reference: string, arithmetic: string,
 *     min_cosine: number, mean_cosine: number} | null} parity
 * @property {{dataset: string, people: number, fpr: number[], fpir: number[]} | null} thresholds
 * @property {string[]} problems
 */

/**
 * @typedef {object} Info
 * @property {string} version
 * @property {string} started
 * @property {number} uptime_s
 * @property {boolean} ready
 * @property {boolean} read_only
 * @property {EngineFacts[]} engines
 * @property {{resident: number | null, limit: number}} memory
 * @property {{gallery: string, total: number, free: number}[]} disks
 * @property {number} followers
 */

/** @typedef {{name: string, role: "read" | "label" | "admin", csrf: string | null}} Session */
/** @typedef {{kind: string, data: any}} ServiceEvent */

/**
 * @typedef {object} View
 * @property {HTMLElement} root
 * @property {string} title
 * @property {(parameters: URLSearchParams) => void} [update] takes a changed address of the same view.
 * @property {(event: ServiceEvent) => void} [onEvent]
 * @property {() => void} [onOnline] the service answers again.
 * @property {() => void} [stop]
 */

/**
 * @typedef {object} App
 * @property {import("./api.js").Api} api
 * @property {Session} session
 * @property {Gallery[]} galleries
 * @property {() => Gallery} gallery the one in use.
 * @property {(role: "read" | "label" | "admin") => boolean} can
 * @property {() => boolean} canLabel whether people may be named here: the role, and a gallery that can be written.
 * @property {() => string} newsMode `live`, `polling` or `connecting`.
 * @property {() => Promise<void>} refresh reads the galleries again.
 */

export {};
