// Cards are made of the document's templates.

export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}
