// Swagger UI on the service's own description of itself.
SwaggerUIBundle({ dom_id: "#swagger", url: "openapi.json", deepLinking: true, validatorUrl: null });
